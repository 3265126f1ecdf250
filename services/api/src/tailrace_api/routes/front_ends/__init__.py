"""Routes with the paths and fields of existing front ends."""
