"""A trained model as a bundle of files for production: formats, the parity gate, SBOM and model card. Open
`bundle_writer.py` first, `parity.py` for what is not published.
"""
