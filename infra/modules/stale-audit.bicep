// Who watches the watch: two alerts of Azure Monitor for a health audit that stands still. The query hears it when no audit
// ended well for a quarter of an hour; the availability test asks from outside and also hears when nothing answers.

param name string
param location string
param tags object
param workspaceId string
param insightsId string
param healthUrl string
param alertEmail string
param availabilityTest bool

var sites = [
  'emea-nl-ams-azr'
  'us-va-ash-azr'
  'apac-sg-sin-azr'
]

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(alertEmail)) {
  name: '${name}-people'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'mirrorplane'
    emailReceivers: [
      {
        name: 'on call'
        emailAddress: alertEmail
        useCommonAlertSchema: true
      }
    ]
  }
}

resource standsStill 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: '${name}-stale-audit'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Mirrorplane: the health audit stands still'
    description: 'No run of the function health_audit ended well within 15 minutes. Clusters work on; nobody watches them.'
    severity: 1
    enabled: true
    autoMitigate: true
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    scopes: [
      workspaceId
    ]
    // The tables appear with the first telemetry.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: 'AppRequests | where OperationName == "health_audit" and Success == true'
          timeAggregation: 'Count'
          operator: 'LessThan'
          threshold: 1
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: empty(alertEmail) ? [] : [people.id]
    }
  }
}

resource outside 'Microsoft.Insights/webtests@2022-06-15' = if (availabilityTest) {
  name: '${name}-health'
  location: location
  tags: union(tags, { 'hidden-link:${insightsId}': 'Resource' })
  kind: 'standard'
  properties: {
    SyntheticMonitorId: '${name}-health'
    Name: 'Mirrorplane health'
    Description: 'GET /api/health answers 503 when no audit ended for three periods.'
    Kind: 'standard'
    Enabled: true
    Frequency: 300
    Timeout: 30
    RetryEnabled: true
    Locations: [for site in sites: { Id: site }]
    Request: {
      RequestUrl: healthUrl
      HttpVerb: 'GET'
      FollowRedirects: false
      ParseDependentRequests: false
    }
    ValidationRules: {
      ExpectedHttpStatusCode: 200
      SSLCheck: true
      SSLCertRemainingLifetimeCheck: 7
    }
  }
}

resource unhealthy 'Microsoft.Insights/metricAlerts@2018-03-01' = if (availabilityTest) {
  name: '${name}-health'
  location: 'global'
  tags: tags
  properties: {
    description: 'The control plane does not answer, or its audit is stale, as seen from two places or more.'
    severity: 1
    enabled: true
    autoMitigate: true
    evaluationFrequency: 'PT1M'
    windowSize: 'PT15M'
    scopes: [
      outside.id
      insightsId
    ]
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.WebtestLocationAvailabilityCriteria'
      webTestId: outside.id
      componentId: insightsId
      failedLocationCount: 2
    }
    actions: empty(alertEmail) ? [] : [{ actionGroupId: people.id }]
  }
}
