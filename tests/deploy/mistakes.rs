//! Mistakes in the Bicep files: `bicep` and `resource_types` notice them.

use serde_json::json;

use crate::{
    bicep::{Deployment, Sources},
    resource_types::ResourceTypes,
};

fn sources(files: &[(&str, &str)]) -> Result<Sources, String> {
    Sources::parse(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())))
}

#[test]
fn a_mistake_is_an_error_and_its_place_is_named() {
    let check = |text: &str, expected: &str| {
        let good = "param name string\noutput name string = name\n";
        let error = sources(&[("main.bicep", text), ("good.bicep", good)])
            .and_then(|sources| Deployment::of_sources(&sources, &json!({})))
            .err()
            .unwrap();
        assert!(error.contains(expected) && error.contains("main.bicep:"), "{text}: {error}");
    };
    check("param x string = {\n", "this is not Bicep");
    check("output x string = nowhere\n", "this name is not declared");
    check("output x string = frob('a')\n", "frob() is not known");
    check("module m 'good.bicep' = {\n  params: {}\n}\n", "the parameter name of good.bicep is not given");
    check("module m 'good.bicep' = {\n  params: { name: 'a', b: 'c' }\n}\n", "good.bicep has no parameter b");
    check("module m 'good.bicep' = {\n  parms: { name: 'a' }\n}\n", "a module has no parms");
    check(
        "module m 'good.bicep' = {\n  params: { name: 'a' }\n}\noutput x string = m.outputs.nam\n",
        "there is no nam",
    );
    check("resource r 'A/b@1' existing = {\n  name: 'x'\n}\n", "nothing deploys A/b:x");
    check("var v = { a: 1, a: 2 }\noutput x object = v\n", "it is there twice");
}

#[test]
fn a_module_depends_on_the_modules_that_it_names() {
    let good = "param name string\nparam other object = {}\noutput name string = name\n";
    let text = "module a 'good.bicep' = {\n  params: { name: 'a' }\n}\n\
                module name 'good.bicep' = {\n  params: { name: 'b' }\n  dependsOn: [a]\n}\n\
                module c 'good.bicep' = {\n  params: { name: '${a.outputs.name}x', other: { a: 'd' } }\n}\n";
    let sources = sources(&[("main.bicep", text), ("good.bicep", good)]).unwrap();
    let modules = Deployment::of_sources(&sources, &json!({})).unwrap().modules;
    let depend: Vec<_> =
        modules.iter().map(|module| (module.symbolic_name.as_str(), module.depends_on.len())).collect();
    assert_eq!(depend, [("a", 0), ("name", 1), ("c", 1)]);
    assert!(modules.iter().all(|module| module.scope.is_null()));
}

#[test]
fn a_property_that_azure_does_not_know_is_a_fault() {
    let check = |body: &str, expected: &str| {
        let text = format!("resource r 'Microsoft.Storage/storageAccounts@2025-06-01' = {{\n  name: 'x'\n{body}}}\n");
        let sources = sources(&[("main.bicep", &text)]).unwrap();
        let deployment = Deployment::of_sources(&sources, &json!({})).unwrap();
        let faults = ResourceTypes::load().faults(&deployment.resources[0]).join("; ");
        assert!(faults.contains(expected), "{body}: {faults}");
    };
    let good = "  location: 'x'\n  kind: 'StorageV2'\n  sku: { name: 'Standard_LRS' }\n";
    check("  kind: 'StorageV2'\n  sku: { name: 'Standard_LRS' }\n", "/location is missing");
    check(&format!("{good}  color: 'red'\n"), "/color is not known");
    check(&good.replace("Standard_LRS", "Standard_XRS"), "/sku/name is \"Standard_XRS\", not one of");
    check(
        &format!("{good}  properties: {{ allowSharedKeyAcess: false }}\n"),
        "/properties/allowSharedKeyAcess is not known",
    );
    check(&format!("{good}  properties: {{ allowSharedKeyAccess: 'no' }}\n"), "is \"no\", not bool");
    check(
        &format!("{good}  properties: {{ networkAcls: {{ ipRules: [{{ valu: '1' }}] }} }}\n"),
        "ipRules/0/valu is not known",
    );
}
