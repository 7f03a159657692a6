"""A crew in the layout that `crewai create crew --classic` makes."""
