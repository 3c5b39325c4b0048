"""What is done to a scratch copy of the product that knows one entity more, and what stands in for Clerk there."""
