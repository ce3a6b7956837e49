"""Building blocks that several networks share, named as in the papers that introduced them."""
