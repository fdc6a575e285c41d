"""What operators do with boto3: provision, deploy, follow, look."""
