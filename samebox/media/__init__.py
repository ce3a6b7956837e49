"""Image folders, videos and drawing."""
