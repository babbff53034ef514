//! ISO/IEC 27001:2022, annex A.

use super::Evidence::*;
use super::{Clause, Framework};
use crate::report::say::said;

pub const FRAMEWORK: Framework = Framework {
    tag: "iso27001",
    name: said("ISO/IEC 27001", "ISO/IEC 27001"),
    edition: said("ISO/IEC 27001:2022, annex A", "ISO/IEC 27001:2022, anexo A"),
    remark: None,
    clauses: &[
        Clause {
            id: "A.8.13",
            title: said("Information backup", "Copias de seguridad de la información"),
            asks: said(
                "Backup copies of information, software and systems are maintained and regularly tested, as the agreed policy on backup says.",
                "Se mantienen copias de seguridad de la información, el software y los sistemas, y se prueban con regularidad según la política de copias acordada.",
            ),
            evidence: &[Policies, Runs, AttainedRpo, RestoreTests, IntegrityChecks, Encryption],
        },
        Clause {
            id: "A.8.14",
            title: said(
                "Redundancy of information processing facilities",
                "Redundancia de los recursos de tratamiento",
            ),
            asks: said(
                "Enough redundancy to meet requirements of availability.",
                "Redundancia suficiente para los requisitos de disponibilidad.",
            ),
            evidence: &[CopiesElsewhere],
        },
        Clause {
            id: "A.5.30",
            title: said("ICT readiness for business continuity", "Preparación de las TIC para la continuidad"),
            asks: said(
                "Readiness is planned, maintained and tested against objectives of continuity.",
                "La preparación se planifica, se mantiene y se prueba frente a los objetivos de continuidad.",
            ),
            evidence: &[RestoreTests, MeasuredRto, AttainedRpo, RealRestores],
        },
        Clause {
            id: "A.8.24",
            title: said("Use of cryptography", "Uso de la criptografía"),
            asks: said(
                "Rules for the effective use of cryptography, key management included, are defined and applied.",
                "Se definen y aplican reglas para el uso eficaz de la criptografía, incluida la gestión de claves.",
            ),
            evidence: &[Encryption, KeyLifecycle],
        },
        Clause {
            id: "A.5.17",
            title: said("Authentication information", "Información de autenticación"),
            asks: said(
                "Authentication information is allocated and managed by a process.",
                "La información de autenticación se asigna y gestiona mediante un proceso.",
            ),
            evidence: &[Rotations, CredentialAges],
        },
        Clause {
            id: "A.5.33",
            title: said("Protection of records", "Protección de los registros"),
            asks: said(
                "Records are protected from loss, destruction, falsification and unauthorised release.",
                "Los registros se protegen frente a pérdida, destrucción, falsificación y divulgación no autorizada.",
            ),
            evidence: &[Immutability, AuditTrail, Deletions],
        },
        Clause {
            id: "A.8.15",
            title: said("Logging", "Registro de eventos"),
            asks: said(
                "Logs of activities, exceptions and faults are produced, stored, protected and analysed.",
                "Se generan, almacenan, protegen y analizan registros de actividades, excepciones y fallos.",
            ),
            evidence: &[AuditTrail, Notifications],
        },
        Clause {
            id: "A.8.17",
            title: said("Clock synchronization", "Sincronización de relojes"),
            asks: said(
                "Clocks are synchronised to approved sources of time.",
                "Los relojes se sincronizan con fuentes de tiempo aprobadas.",
            ),
            evidence: &[Clocks],
        },
        Clause {
            id: "A.8.32",
            title: said("Change management", "Gestión de cambios"),
            asks: said(
                "Changes follow procedures of change management.",
                "Los cambios siguen procedimientos de gestión de cambios.",
            ),
            evidence: &[Changes],
        },
    ],
};
