"""Claims of audio containers about themselves: how many samples they hold, and whether their bytes reach their end."""
