"""Routes that keep the paths and fields of existing front ends."""
