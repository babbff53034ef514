//! DORA: Regulation (EU) 2022/2554, articles 11 and 12.

use super::Evidence::*;
use super::{Clause, Framework};
use crate::report::say::said;

pub const FRAMEWORK: Framework = Framework {
    tag: "dora",
    name: said("Digital Operational Resilience Act (DORA)", "Reglamento de resiliencia operativa digital (DORA)"),
    edition: said("Regulation (EU) 2022/2554", "Reglamento (UE) 2022/2554"),
    remark: None,
    clauses: &[
        Clause {
            id: "12(1)",
            title: said("Backup policies and procedures", "Políticas y procedimientos de copia de seguridad"),
            asks: said(
                "They specify the scope of the data and the minimum frequency, by criticality and confidentiality; and methods of restoration.",
                "Especifican el alcance de los datos y la frecuencia mínima según su criticidad y confidencialidad, y los métodos de restablecimiento y recuperación.",
            ),
            evidence: &[Policies, Changes],
        },
        Clause {
            id: "12(2)",
            title: said("Backup systems, tested periodically", "Sistemas de copia, probados periódicamente"),
            asks: said(
                "Backups can be activated as the policy says without jeopardising security; backup and restoration are tested periodically.",
                "Las copias pueden activarse según la política sin poner en riesgo la seguridad; la copia y la recuperación se prueban periódicamente.",
            ),
            evidence: &[Runs, RestoreTests, IntegrityChecks, Encryption],
        },
        Clause {
            id: "12(3)",
            title: said("Segregated systems for restoration", "Sistemas segregados para el restablecimiento"),
            asks: said(
                "When restoring with own systems, these are physically and logically segregated from the source system, and protected from unauthorised access.",
                "Al restablecer datos con sistemas propios, estos están física y lógicamente segregados del sistema de origen y protegidos frente a accesos no autorizados.",
            ),
            evidence: &[IsolatedTests, CopiesElsewhere, Immutability],
        },
        Clause {
            id: "12(6)",
            title: said(
                "Recovery time and recovery point objectives",
                "Objetivos de tiempo y de punto de recuperación",
            ),
            asks: said(
                "They are determined for each function, and met also in extreme scenarios.",
                "Se determinan para cada función y se alcanzan también en escenarios extremos.",
            ),
            evidence: &[AttainedRpo, MeasuredRto],
        },
        Clause {
            id: "12(7)",
            title: said("Checks on recovery", "Comprobaciones en la recuperación"),
            asks: said(
                "Multiple checks, reconciliations included, so that the highest level of data integrity is kept.",
                "Comprobaciones múltiples, incluidas conciliaciones, que garanticen el máximo nivel de integridad de los datos.",
            ),
            evidence: &[Reconciliation],
        },
        Clause {
            id: "11(6)",
            title: said(
                "Testing of continuity and recovery plans",
                "Pruebas de los planes de continuidad y recuperación",
            ),
            asks: said(
                "They are tested at least yearly, and after substantive changes.",
                "Se prueban al menos una vez al año y tras cambios sustanciales.",
            ),
            evidence: &[RestoreTests, RealRestores],
        },
        Clause {
            id: "9(4)(d)",
            title: said("Authentication and cryptographic keys", "Autenticación y claves criptográficas"),
            asks: said(
                "Policies for strong authentication and for protecting cryptographic keys.",
                "Políticas de autenticación fuerte y de protección de claves criptográficas.",
            ),
            evidence: &[KeyLifecycle, Rotations, CredentialAges],
        },
        Clause {
            id: "9(4)(e)",
            title: said("Change management", "Gestión de cambios"),
            asks: said(
                "Changes are recorded, tested, assessed, approved, implemented and verified in a controlled manner.",
                "Los cambios se registran, prueban, evalúan, aprueban, implantan y verifican de forma controlada.",
            ),
            evidence: &[Changes],
        },
    ],
};
