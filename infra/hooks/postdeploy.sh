#!/bin/sh
# Event Grid accepts a subscription only when the function it delivers to is there: after the code, therefore.
set -eu

az deployment group create \
  --resource-group "$AZURE_RESOURCE_GROUP" \
  --name mirrorplane-events \
  --template-file infra/events.json \
  --parameters functionAppName="$AZURE_FUNCTION_APP_NAME" \
  storageAccountName="$AZURE_STORAGE_ACCOUNT_NAME" identityName="$AZURE_IDENTITY_NAME" \
  --output none
