"""Published weights that come as a pickle, turned into safetensors without running anything."""
