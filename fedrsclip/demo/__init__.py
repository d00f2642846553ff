"""How the demo CLIP was made, and a sheet of the scenes that it was made for."""
