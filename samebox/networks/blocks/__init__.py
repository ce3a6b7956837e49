"""Parts that several networks share, each named as in the paper it comes from."""
