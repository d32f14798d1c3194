"""From a finished search to a file that stands without us."""
