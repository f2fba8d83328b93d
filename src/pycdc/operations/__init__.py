"""Operations on a pipeline from outside, as functions that return data."""
