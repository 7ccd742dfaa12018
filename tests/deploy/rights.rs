//! The rights of each principal, in `infra/access.bicep` and `infra/pipeline-access.bicep`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    bicep::{Deployment, Resource},
    infrastructure::{deploy, deployment, names, of_type},
};

const BLOB_OWNER: &str = "b7e6dc6d-f1e8-4753-8033-0f276bb0955b";
const QUEUE_CONTRIBUTOR: &str = "974c5e8b-45b9-4653-ba55-5f855dd0fb88";
const QUEUE_READER: &str = "19e7f393-937e-4f77-808e-94535e297925";
const QUEUE_SENDER: &str = "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a";
const TABLE_CONTRIBUTOR: &str = "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3";
const TABLE_READER: &str = "76199698-9eea-4c19-bc75-cec21354c6b6";
const METRICS_PUBLISHER: &str = "3913510d-42f4-4e42-8a64-420c390055eb";
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
const WEBSITE_CONTRIBUTOR: &str = "de139f84-1756-47ae-9be6-808fbbe84772";

const APP: &str = "principal of id-jefxxitjqkfhk";
const USER: &str = "the-deployer";
const PIPELINE: &str = "principal of id-deploy-jefxxitjqkfhk";
const ACCOUNT: &str = "Microsoft.Storage/storageAccounts:stjefxxitjqkfhk";

/// Principal, role and scope of every assignment.
fn rights(deployment: &Deployment) -> BTreeSet<(String, String, String)> {
    let assignments = of_type(deployment, "Microsoft.Authorization/roleAssignments");
    let right = |resource: &&Resource| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let properties = &resource.body["properties"];
        let role = text(&properties["roleDefinitionId"]);
        let role = role.strip_prefix("Microsoft.Authorization/roleDefinitions:").unwrap().to_owned();
        let principal = text(&properties["principalId"]);
        // A principal that is deleted and made anew is another one, and an assignment cannot change its principal.
        assert!(resource.name().contains(&principal), "{}", resource.place);
        (principal, role, text(&resource.body["scope"]["id"]))
    };
    let rights: BTreeSet<_> = assignments.iter().map(right).collect();
    assert_eq!(rights.len(), assignments.len(), "a right is given twice");
    assert_eq!(names(&assignments).len(), assignments.len(), "two assignments have the same name");
    rights
}

fn queue(name: &str) -> String {
    format!("Microsoft.Storage/storageAccounts/queueServices/queues:stjefxxitjqkfhk/default/{name}")
}

#[test]
fn everybody_may_do_what_they_have_to_and_nothing_else() {
    let insights = "Microsoft.Insights/components:appi-jefxxitjqkfhk".to_owned();
    let table = "Microsoft.Storage/storageAccounts/tableServices/tables:stjefxxitjqkfhk/default/idempotency".to_owned();
    let app = "Microsoft.Web/sites:func-jefxxitjqkfhk".to_owned();
    let plan = "Microsoft.Web/serverfarms:plan-func-jefxxitjqkfhk".to_owned();
    let expected = [
        (APP, BLOB_OWNER, ACCOUNT.to_owned()),
        (APP, QUEUE_CONTRIBUTOR, queue("orders")),
        (APP, QUEUE_CONTRIBUTOR, queue("orders-poison")),
        (APP, QUEUE_SENDER, queue("orders-quarantine")),
        (APP, QUEUE_READER, queue("orders-quarantine")),
        (APP, QUEUE_SENDER, queue("order-events")),
        (APP, QUEUE_READER, queue("order-events")),
        (APP, TABLE_CONTRIBUTOR, ACCOUNT.to_owned()),
        (APP, METRICS_PUBLISHER, insights),
        (USER, QUEUE_CONTRIBUTOR, ACCOUNT.to_owned()),
        (USER, TABLE_CONTRIBUTOR, ACCOUNT.to_owned()),
        (PIPELINE, WEBSITE_CONTRIBUTOR, app),
        (PIPELINE, READER, plan),
        (PIPELINE, QUEUE_SENDER, queue("orders")),
        (PIPELINE, TABLE_READER, table),
    ];
    let expected: BTreeSet<_> =
        expected.into_iter().map(|(principal, role, scope)| (principal.to_owned(), role.to_owned(), scope)).collect();
    assert_eq!(rights(&deployment()), expected);
}

#[test]
fn what_is_not_asked_for_is_not_deployed() {
    let parameters = json!({ "environmentName": "orders", "location": "westeurope", "userPrincipalId": "" });
    let deployment = deploy(&parameters);
    assert!(rights(&deployment).iter().all(|(principal, ..)| principal == APP));
    let types: BTreeSet<_> = deployment.resources.iter().map(Resource::resource_type).collect();
    assert!(!types.contains("Microsoft.Insights/actionGroups"));
    assert_eq!(of_type(&deployment, "Microsoft.ManagedIdentity/userAssignedIdentities").len(), 1);
    assert_eq!(deployment.outputs["AZURE_CLIENT_ID"], "");
    for rule in of_type(&deployment, "Microsoft.Insights/scheduledQueryRules") {
        assert_eq!(rule.body["properties"]["actions"]["actionGroups"], json!([]));
    }
}
