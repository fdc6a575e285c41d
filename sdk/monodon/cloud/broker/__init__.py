"""The MQTT 5 broker of the embedded cloud: pure session rules and the asyncio server."""
