"""Server-Sent Events on the wire: the encoder of blocks, and the response that writes them."""
