//! NIST SP 800-53 revision 5: controls by their identifiers, which OSCAL uses as well.

use super::Evidence::*;
use super::{Clause, Framework};
use crate::report::say::said;

pub const FRAMEWORK: Framework = Framework {
    tag: "nist",
    name: said("NIST SP 800-53", "NIST SP 800-53"),
    edition: said("NIST SP 800-53 revision 5", "NIST SP 800-53, revisión 5"),
    remark: None,
    clauses: &[
        Clause {
            id: "CP-9",
            title: said("System backup", "Copia de seguridad del sistema"),
            asks: said(
                "Backups of user and system information and documentation at a defined frequency; their confidentiality, integrity and availability are protected.",
                "Copias de la información de usuario, de sistema y de la documentación con una frecuencia definida, protegidas en su confidencialidad, integridad y disponibilidad.",
            ),
            evidence: &[Policies, Runs, AttainedRpo],
        },
        Clause {
            id: "CP-9(1)",
            title: said("Testing for reliability and integrity", "Pruebas de fiabilidad e integridad"),
            asks: said(
                "Backup information is tested for reliability of media and integrity of information.",
                "Las copias se prueban para comprobar la fiabilidad del soporte y la integridad de la información.",
            ),
            evidence: &[IntegrityChecks, RestoreTests],
        },
        Clause {
            id: "CP-9(2)",
            title: said("Test restoration using sampling", "Restauración de prueba por muestreo"),
            asks: said(
                "A sample of backup information is used in restoring selected functions.",
                "Se usa una muestra de las copias para restaurar funciones seleccionadas.",
            ),
            evidence: &[RestoreTests, Reconciliation],
        },
        Clause {
            id: "CP-9(3)",
            title: said(
                "Separate storage for critical information",
                "Almacenamiento separado de la información crítica",
            ),
            asks: said(
                "Copies of critical information are kept in a separate facility.",
                "Las copias de la información crítica se guardan en una instalación separada.",
            ),
            evidence: &[CopiesElsewhere],
        },
        Clause {
            id: "CP-9(7)",
            title: said("Dual authorization for deletion", "Doble autorización para el borrado"),
            asks: said(
                "Deleting or destroying backup information takes two authorisations.",
                "El borrado o la destrucción de copias exige dos autorizaciones.",
            ),
            evidence: &[Deletions, Immutability],
        },
        Clause {
            id: "CP-9(8)",
            title: said("Cryptographic protection", "Protección criptográfica"),
            asks: said(
                "Cryptography prevents unauthorised disclosure and modification of backup information.",
                "La criptografía impide la divulgación y la modificación no autorizadas de las copias.",
            ),
            evidence: &[Encryption],
        },
        Clause {
            id: "CP-4",
            title: said("Contingency plan testing", "Pruebas del plan de contingencia"),
            asks: said(
                "The plan is tested, the results reviewed, and corrective actions begun.",
                "El plan se prueba, se revisan los resultados y se inician acciones correctivas.",
            ),
            evidence: &[RestoreTests, MeasuredRto],
        },
        Clause {
            id: "CP-10",
            title: said("System recovery and reconstitution", "Recuperación y reconstitución del sistema"),
            asks: said(
                "Recovery to a known state within a defined time.",
                "Recuperación a un estado conocido dentro de un plazo definido.",
            ),
            evidence: &[MeasuredRto, RealRestores],
        },
        Clause {
            id: "CP-10(2)",
            title: said("Transaction recovery", "Recuperación de transacciones"),
            asks: said(
                "Transaction-based systems are recovered at a consistent point.",
                "Los sistemas transaccionales se recuperan en un punto coherente.",
            ),
            evidence: &[Reconciliation],
        },
        Clause {
            id: "IA-5",
            title: said("Authenticator management", "Gestión de autenticadores"),
            asks: said(
                "Authenticators are changed or refreshed at a defined time, or when defined events occur, and protected.",
                "Los autenticadores se cambian o renuevan en plazos o ante hechos definidos, y se protegen.",
            ),
            evidence: &[Rotations, CredentialAges],
        },
        Clause {
            id: "SC-12",
            title: said("Cryptographic key establishment and management", "Establecimiento y gestión de claves"),
            asks: said(
                "Keys are established and managed: generated, distributed, stored, accessed and destroyed.",
                "Las claves se establecen y gestionan: generación, distribución, custodia, acceso y destrucción.",
            ),
            evidence: &[KeyLifecycle],
        },
        Clause {
            id: "AU-8",
            title: said("Time stamps", "Marcas de tiempo"),
            asks: said(
                "Audit records carry times of internal clocks, in UTC or with an offset.",
                "Los registros llevan la hora de relojes internos, en UTC o con su desfase.",
            ),
            evidence: &[Clocks],
        },
        Clause {
            id: "AU-9",
            title: said("Protection of audit information", "Protección de la información de auditoría"),
            asks: said(
                "Audit information is protected from unauthorised access, modification and deletion.",
                "La información de auditoría se protege del acceso, la modificación y el borrado no autorizados.",
            ),
            evidence: &[AuditTrail, Immutability],
        },
        Clause {
            id: "CM-3",
            title: said("Configuration change control", "Control de cambios de configuración"),
            asks: said(
                "Changes are reviewed, documented and recorded.",
                "Los cambios se revisan, documentan y registran.",
            ),
            evidence: &[Changes],
        },
    ],
};
