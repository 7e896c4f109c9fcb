"""Layer-by-layer comparison of two stages of the same model. Not called `diff`, which is the public function."""
