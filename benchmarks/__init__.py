"""How fast the forms of a detector are, and how much more than its network a pipeline costs."""
