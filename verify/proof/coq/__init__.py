"""From a certificate to one Coq file that states and proves the same claim."""
