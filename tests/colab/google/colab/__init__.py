"""Stands in for Colab's own module, by whose presence packages recognise Colab."""
