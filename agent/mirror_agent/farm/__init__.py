"""A node of a farm: two to four nodes run the application at the same time, nothing is replicated between them."""
