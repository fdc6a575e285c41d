"""AWS, small enough to embed: what boto3, devices and MQTT clients need of it."""
