"""`model.axiom`: a zip of safetensors and a manifest; `file` is its public face."""
