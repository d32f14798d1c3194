"""Reports: the demo, and the page and pictures that it makes."""
