"""Networks in plain PyTorch: blocks, a file for each family, and construction from a plain dict."""
