//! SOC 2: Trust Services Criteria of the AICPA.

use super::Evidence::*;
use super::{Clause, Framework};
use crate::report::say::said;

pub const FRAMEWORK: Framework = Framework {
    tag: "soc2",
    name: said("SOC 2", "SOC 2"),
    edition: said(
        "Trust Services Criteria (TSP section 100), 2017, revised points of focus 2022",
        "Criterios de servicios de confianza (TSP, sección 100), 2017, puntos de enfoque revisados en 2022",
    ),
    remark: None,
    clauses: &[
        Clause {
            id: "A1.2",
            title: said(
                "Availability: backup and recovery infrastructure",
                "Disponibilidad: copias e infraestructura de recuperación",
            ),
            asks: said(
                "Data backup processes and recovery infrastructure are designed, operated, maintained and monitored to meet objectives.",
                "Los procesos de copia y la infraestructura de recuperación se diseñan, operan, mantienen y supervisan para alcanzar los objetivos.",
            ),
            evidence: &[Policies, Runs, AttainedRpo, CopiesElsewhere, Encryption, Immutability, Notifications],
        },
        Clause {
            id: "A1.3",
            title: said("Availability: recovery tests", "Disponibilidad: pruebas de recuperación"),
            asks: said(
                "Recovery procedures are tested; the integrity and completeness of back-up data is tested periodically.",
                "Los procedimientos de recuperación se prueban; la integridad y la completitud de las copias se comprueban periódicamente.",
            ),
            evidence: &[RestoreTests, Reconciliation, MeasuredRto, IntegrityChecks],
        },
        Clause {
            id: "CC6.1",
            title: said("Logical access", "Acceso lógico"),
            asks: said(
                "Logical access to information assets is restricted; encryption keys and credentials are protected.",
                "Se restringe el acceso lógico a los activos; las claves de cifrado y las credenciales se protegen.",
            ),
            evidence: &[Encryption, KeyLifecycle, CredentialAges, Rotations],
        },
        Clause {
            id: "CC7.2",
            title: said("Monitoring", "Supervisión"),
            asks: said(
                "System components are monitored for anomalies, which are analysed.",
                "Los componentes se supervisan en busca de anomalías, que se analizan.",
            ),
            evidence: &[AuditTrail, Notifications],
        },
        Clause {
            id: "CC7.5",
            title: said("Recovery from incidents", "Recuperación de incidentes"),
            asks: said(
                "Activities to recover from security incidents are identified, developed and carried out.",
                "Se definen, desarrollan y ejecutan las actividades de recuperación ante incidentes.",
            ),
            evidence: &[RealRestores, RestoreTests],
        },
        Clause {
            id: "CC8.1",
            title: said("Change management", "Gestión de cambios"),
            asks: said(
                "Changes are authorised, documented, tested and approved.",
                "Los cambios se autorizan, documentan, prueban y aprueban.",
            ),
            evidence: &[Changes, Deletions],
        },
        Clause {
            id: "CC9.1",
            title: said("Risk of disruption", "Riesgo de interrupción"),
            asks: said(
                "Activities to mitigate the risk of business disruption are identified and developed.",
                "Se definen y desarrollan actividades que mitigan el riesgo de interrupción del negocio.",
            ),
            evidence: &[Policies, CopiesElsewhere, RestoreTests],
        },
    ],
};
