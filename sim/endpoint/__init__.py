"""What a trial measures, one file for each endpoint.

An endpoint names the *records* it is made of (events on the patient's clock,
followed whether or not anybody looks) and says what is known of it from those
records at a data cut. `sim.endpoint.by_name` lists them all.
"""
