"""Certificates in human form: in a terminal, as one HTML file, as a PDF. They are shown, not judged."""
