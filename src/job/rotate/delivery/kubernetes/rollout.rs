//! How far a workload is with giving all of its pods what its template says. Pure.

use crate::policy::WorkloadKind;
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    Done,
    Going(String),
    /// It will not get there by itself.
    Stuck(String),
}

pub fn of(kind: WorkloadKind, object: &Value) -> Rollout {
    let (spec, status) = (&object["spec"], &object["status"]);
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    if number(&status["observedGeneration"]) < number(&object["metadata"]["generation"]) {
        return Rollout::Going("its controller has not seen the change yet".into());
    }
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let late = conditions.into_iter().find(|condition| condition["reason"] == "ProgressDeadlineExceeded");
    if let Some(condition) = late {
        return Rollout::Stuck(condition["message"].as_str().unwrap_or("its deadline has passed").to_owned());
    }
    match kind {
        WorkloadKind::Deployment if spec["paused"] == true => return Rollout::Stuck("it is paused".into()),
        WorkloadKind::StatefulSet if spec["updateStrategy"]["type"] == "OnDelete" => {
            return Rollout::Stuck("it makes its pods anew only when somebody deletes them (OnDelete)".into());
        }
        WorkloadKind::StatefulSet if number(&spec["updateStrategy"]["rollingUpdate"]["partition"]) > 0 => {
            return Rollout::Stuck("a `partition` keeps some of its pods as they are".into());
        }
        _ => {}
    }
    let updated = number(&status["updatedReplicas"]);
    let available = match kind {
        WorkloadKind::Deployment => number(&status["availableReplicas"]),
        WorkloadKind::StatefulSet => number(&status["readyReplicas"]),
    };
    let all = number(&status["replicas"]);
    // A StatefulSet forgets what was updated once its revisions are one again.
    let is_one = kind == WorkloadKind::StatefulSet && status["currentRevision"] == status["updateRevision"];
    if updated < wanted && !is_one {
        Rollout::Going(format!("{updated} of {wanted} pods were made anew"))
    } else if all > wanted {
        Rollout::Going(format!("{} old pods are still there", all - wanted))
    } else if available < wanted {
        Rollout::Going(format!("{available} of {wanted} new pods are ready"))
    } else {
        Rollout::Done
    }
}

/// What keeps a pod from being ready.
pub fn why_not_ready(pod: &Value) -> Option<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    if conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True") {
        return None;
    }
    let kinds = ["initContainerStatuses", "containerStatuses"];
    let mut statuses = kinds.iter().filter_map(|kind| pod["status"][kind].as_array()).flatten();
    let reason = statuses.find_map(|status| status["state"]["waiting"]["reason"].as_str());
    Some(format!("pod {name} is {}", reason.or(pod["status"]["phase"].as_str()).unwrap_or("not ready")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deployment_is_done_when_all_its_pods_are_new_and_available() {
        let at = |status: Value| {
            of(
                WorkloadKind::Deployment,
                &json!({ "metadata": { "generation": 3 }, "spec": { "replicas": 2 }, "status": status }),
            )
        };
        let going = |text: &str| Rollout::Going(text.to_owned());
        assert_eq!(
            at(json!({ "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 })),
            going("its controller has not seen the change yet")
        );
        assert_eq!(
            at(json!({ "observedGeneration": 3, "replicas": 3, "updatedReplicas": 1, "availableReplicas": 2 })),
            going("1 of 2 pods were made anew")
        );
        assert_eq!(
            at(json!({ "observedGeneration": 3, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3 })),
            going("1 old pods are still there")
        );
        assert_eq!(
            at(json!({ "observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1 })),
            going("1 of 2 new pods are ready")
        );
        assert_eq!(
            at(json!({ "observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 })),
            Rollout::Done
        );
        let late = json!({ "observedGeneration": 3, "conditions": [{ "type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "late" }] });
        assert_eq!(at(late), Rollout::Stuck("late".into()));
    }

    #[test]
    fn a_stateful_set_that_does_not_move_by_itself_is_stuck() {
        let at = |spec: Value, status: Value| of(WorkloadKind::StatefulSet, &json!({ "spec": spec, "status": status }));
        assert!(matches!(at(json!({ "updateStrategy": { "type": "OnDelete" } }), json!({})), Rollout::Stuck(_)));
        let rolling = json!({ "replicas": 1 });
        assert!(matches!(
            at(
                rolling.clone(),
                json!({ "currentRevision": "a", "updateRevision": "b", "replicas": 1, "readyReplicas": 1 })
            ),
            Rollout::Going(_)
        ));
        assert_eq!(
            at(rolling, json!({ "currentRevision": "b", "updateRevision": "b", "replicas": 1, "readyReplicas": 1 })),
            Rollout::Done
        );
    }

    #[test]
    fn a_pod_says_what_it_waits_for() {
        let pod = json!({ "metadata": { "name": "web-1" }, "status": { "phase": "Pending", "containerStatuses": [{ "state": { "waiting": { "reason": "CrashLoopBackOff" } } }] } });
        assert_eq!(why_not_ready(&pod).unwrap(), "pod web-1 is CrashLoopBackOff");
        assert_eq!(
            why_not_ready(&json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } })),
            None
        );
    }
}
