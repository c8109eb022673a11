"""Feed -> ORM: batched, one writer."""
