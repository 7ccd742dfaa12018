"""Writes what may be said about each resource in infra/*.bicep, as Microsoft's own management libraries have it.

    pip install azure-mgmt-applicationinsights==4.1.0 azure-mgmt-authorization==4.0.0 azure-mgmt-loganalytics==13.1.1 \
        azure-mgmt-monitor==7.0.0 azure-mgmt-msi==7.1.0 azure-mgmt-resource==23.3.0 azure-mgmt-storage==24.0.0 \
        azure-mgmt-web==10.1.0
    python generate.py > resource_types.json

The versions are chosen so that each library speaks the API version that is named here; the libraries are generated from
the specifications that the Bicep compiler's types come from. A property is a primitive's name, a list of values, another
model's name, `[T]` for an array of T or `{T}` for an object with values T. What the service only answers is left out.
"""

import importlib
import json
import re

LIBRARIES = {
    "authorization": "azure.mgmt.authorization.v2022_04_01.models",
    "components": "azure.mgmt.applicationinsights.v2020_02_02.models",
    "locks": "azure.mgmt.resource.locks.v2016_09_01.models",
    "monitor": "azure.mgmt.monitor.models",
    "msi": "azure.mgmt.msi.v2024_11_30.models",
    "resources": "azure.mgmt.resource.resources.v2024_07_01.models",
    "storage": "azure.mgmt.storage.models",
    "web": "azure.mgmt.web.models",
    "workspaces": "azure.mgmt.loganalytics.models",
}
RESOURCES = {
    "Microsoft.Authorization/locks@2016-09-01": "locks.ManagementLockObject",
    "Microsoft.Authorization/roleAssignments@2022-04-01": "authorization.RoleAssignmentCreateParameters",
    "Microsoft.Insights/actionGroups@2023-01-01": "monitor.ActionGroupResource",
    "Microsoft.Insights/components@2020-02-02": "components.ApplicationInsightsComponent",
    "Microsoft.Insights/scheduledQueryRules@2023-12-01": "monitor.ScheduledQueryRuleResource",
    "Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30": "msi.Identity",
    "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2024-11-30":
        "msi.FederatedIdentityCredential",
    "Microsoft.OperationalInsights/workspaces@2025-07-01": "workspaces.Workspace",
    "Microsoft.Resources/resourceGroups@2024-07-01": "resources.ResourceGroup",
    "Microsoft.Storage/storageAccounts@2025-06-01": "storage.StorageAccountCreateParameters",
    "Microsoft.Storage/storageAccounts/blobServices@2025-06-01": "storage.BlobServiceProperties",
    "Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01": "storage.BlobContainer",
    "Microsoft.Storage/storageAccounts/queueServices@2025-06-01": "storage.QueueServiceProperties",
    "Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01": "storage.StorageQueue",
    "Microsoft.Storage/storageAccounts/tableServices@2025-06-01": "storage.TableServiceProperties",
    "Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01": "storage.Table",
    "Microsoft.Web/serverfarms@2025-03-01": "web.AppServicePlan",
    "Microsoft.Web/sites@2025-03-01": "web.Site",
    "Microsoft.Web/sites/config@2025-03-01": "web.StringDictionary",
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01": "web.CsmPublishingCredentialsPoliciesEntity",
}


def known_values(model, attribute):
    """The values that the documentation of an attribute lists, if it does."""
    text = " ".join((model.__doc__ or "").split())
    found = re.search(rf":ivar {attribute}: (.*?)(?= :ivar | :vartype )", text)
    listed = found and re.search(r"Known values are: (.*)", found.group(1))
    return re.findall(r'"([^"]*)"', listed.group(1)) if listed else None


def describe(library, name, models):
    """Adds a model and all that it refers to."""
    key = f"{library}.{name}"
    if key in models:
        return
    model = getattr(importlib.import_module(LIBRARIES[library]), name)
    models[key] = {"required": [], "properties": {}}
    rules = getattr(model, "_validation", {})
    for attribute, entry in sorted(model._attribute_map.items(), key=lambda item: item[1]["key"]):
        rule = rules.get(attribute, {})
        if rule.get("readonly"):
            continue
        *outer, last = re.split(r"(?<!\\)\.", entry["key"])
        place = models[key]
        for part in outer:
            place = place["properties"].setdefault(part, {"required": [], "properties": {}})
        last = last.replace("\\.", ".")
        place["properties"][last] = known_values(model, attribute) or reference(library, entry["type"], models)
        if rule.get("required"):
            place["required"].append(last)


def reference(library, text, models):
    """The type of a property, and the models in it."""
    inner = text.strip("[]{}")
    if inner[0].isupper():
        module = importlib.import_module(LIBRARIES[library])
        if hasattr(getattr(module, inner), "_attribute_map"):
            describe(library, inner, models)
            return text.replace(inner, f"{library}.{inner}")
        return text.replace(inner, "str")
    return text


models = {}
for target in RESOURCES.values():
    describe(*target.split("."), models)
lines = [f"    {json.dumps(key)}: {json.dumps(models[key])}" for key in sorted(models)]
print('{\n  "resources": ' + json.dumps(RESOURCES, indent=4).replace("\n}", "\n  }") + ",")
print('  "models": {\n' + ",\n".join(lines) + "\n  }\n}")
