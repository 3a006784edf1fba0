// Logs and telemetry of the control plane. Telemetry is sent with the identity; the component takes no key.

param name string
param location string
param tags object
param retentionDays int

@description('The control plane\'s identity.')
param principalId string

// Built-in role: Monitoring Metrics Publisher.
var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    retentionInDays: retentionDays
    sku: {
      name: 'PerGB2018'
    }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: name
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    DisableLocalAuth: true
    IngestionMode: 'LogAnalytics'
    WorkspaceResourceId: workspace.id
  }
}

// What the control plane tells, on one page; Monitor shows it beside the component.
resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(insights.id, 'mirrorplane')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Mirrorplane'
    category: 'workbook'
    version: 'Notebook/1.0'
    sourceId: insights.id
    serializedData: loadTextContent('../monitoring/workbook.json')
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, principalId, metricsPublisher)
  scope: insights
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', metricsPublisher)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

output insightsName string = insights.name
output insightsId string = insights.id
output workspaceId string = workspace.id
