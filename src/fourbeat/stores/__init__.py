"""Object stores (`s3://`, `gs://`) through fsspec: addresses, and objects that are whole or absent."""
