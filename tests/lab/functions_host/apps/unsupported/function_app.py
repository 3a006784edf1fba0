"""An app with a binding the host does not serve."""

import azure.functions as func

app = func.FunctionApp()


@app.blob_trigger(arg_name="blob", path="c/{name}", connection="AzureWebJobsStorage")
def on_blob(blob: func.InputStream) -> None:
    raise AssertionError("never run")
