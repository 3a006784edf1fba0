#!/bin/sh
# Event Grid accepts a subscription only when the function it delivers to is there: after the code, therefore.
set -eu

az deployment group create \
  --resource-group "$AZURE_RESOURCE_GROUP" \
  --name mirrorplane-events \
  --template-file infra/events.json \
  --parameters functionAppName="$AZURE_FUNCTION_APP_NAME" witnessAccountName="$AZURE_WITNESS_ACCOUNT_NAME" \
  --output none
