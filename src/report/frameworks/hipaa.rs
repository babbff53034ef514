//! HIPAA Security Rule: 45 CFR part 164, subpart C.

use super::Evidence::*;
use super::{Clause, Framework};
use crate::report::say::said;

pub const FRAMEWORK: Framework = Framework {
    tag: "hipaa",
    name: said("HIPAA Security Rule", "Norma de seguridad de HIPAA"),
    edition: said("45 CFR part 164, subpart C", "45 CFR, parte 164, subparte C"),
    remark: None,
    clauses: &[
        Clause {
            id: "164.308(a)(7)(ii)(A)",
            title: said("Data backup plan (required)", "Plan de copia de datos (obligatorio)"),
            asks: said(
                "Retrievable exact copies of electronic protected health information are created and maintained.",
                "Se crean y mantienen copias exactas y recuperables de la información sanitaria protegida en formato electrónico.",
            ),
            evidence: &[Policies, Runs, AttainedRpo, IntegrityChecks],
        },
        Clause {
            id: "164.308(a)(7)(ii)(B)",
            title: said("Disaster recovery plan (required)", "Plan de recuperación ante desastres (obligatorio)"),
            asks: said(
                "Procedures to restore any loss of data.",
                "Procedimientos para restaurar cualquier pérdida de datos.",
            ),
            evidence: &[CopiesElsewhere, RestoreTests, RealRestores],
        },
        Clause {
            id: "164.308(a)(7)(ii)(D)",
            title: said("Testing and revision (addressable)", "Pruebas y revisión (abordable)"),
            asks: said(
                "Contingency plans are periodically tested and revised.",
                "Los planes de contingencia se prueban y revisan periódicamente.",
            ),
            evidence: &[RestoreTests, MeasuredRto, Changes],
        },
        Clause {
            id: "164.308(a)(5)(ii)(D)",
            title: said("Password management (addressable)", "Gestión de contraseñas (abordable)"),
            asks: said(
                "Procedures for creating, changing and safeguarding passwords.",
                "Procedimientos para crear, cambiar y custodiar contraseñas.",
            ),
            evidence: &[Rotations, CredentialAges],
        },
        Clause {
            id: "164.310(d)(2)(iv)",
            title: said("Data backup and storage (addressable)", "Copia y almacenamiento de datos (abordable)"),
            asks: said(
                "A retrievable, exact copy exists before equipment is moved.",
                "Existe una copia exacta y recuperable antes de trasladar equipos.",
            ),
            evidence: &[Runs, Reconciliation],
        },
        Clause {
            id: "164.312(a)(2)(iv)",
            title: said("Encryption and decryption (addressable)", "Cifrado y descifrado (abordable)"),
            asks: said(
                "A mechanism to encrypt and decrypt electronic protected health information.",
                "Un mecanismo para cifrar y descifrar la información sanitaria protegida.",
            ),
            evidence: &[Encryption, KeyLifecycle],
        },
        Clause {
            id: "164.312(b)",
            title: said("Audit controls", "Controles de auditoría"),
            asks: said(
                "Mechanisms that record and examine activity in information systems.",
                "Mecanismos que registran y examinan la actividad de los sistemas.",
            ),
            evidence: &[AuditTrail],
        },
        Clause {
            id: "164.312(c)(1)",
            title: said("Integrity", "Integridad"),
            asks: said(
                "Information is protected from improper alteration or destruction.",
                "La información se protege frente a su alteración o destrucción indebidas.",
            ),
            evidence: &[IntegrityChecks, Immutability, Deletions],
        },
    ],
};
