"""What is written about the chart from the chart itself."""
