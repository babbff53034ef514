//! PCI DSS 4.0.1.

use super::Evidence::*;
use super::{Clause, Framework};
use crate::report::say::said;

pub const FRAMEWORK: Framework = Framework {
    tag: "pci",
    name: said("PCI DSS", "PCI DSS"),
    edition: said("PCI DSS v4.0.1, June 2024", "PCI DSS v4.0.1, junio de 2024"),
    remark: Some(said(
        "The frequency of changes by 8.6.3 comes from a targeted risk analysis (12.3.1) of the organisation, which is not part of this report.",
        "La frecuencia de cambio de 8.6.3 resulta de un análisis de riesgos específico (12.3.1) de la entidad, que no forma parte de este informe.",
    )),
    clauses: &[
        Clause {
            id: "3.5.1",
            title: said("Stored account data is unreadable", "Datos de cuenta ilegibles donde se almacenan"),
            asks: said(
                "PAN is unreadable anywhere it is stored, backups included.",
                "El PAN es ilegible dondequiera que se almacene, copias de seguridad incluidas.",
            ),
            evidence: &[Encryption],
        },
        Clause {
            id: "3.7.4",
            title: said("Cryptoperiods", "Periodos criptográficos"),
            asks: said(
                "Keys are changed at the end of a defined cryptoperiod.",
                "Las claves se cambian al término de un periodo criptográfico definido.",
            ),
            evidence: &[KeyLifecycle],
        },
        Clause {
            id: "8.6.2",
            title: said("No passwords in scripts or files", "Sin contraseñas en guiones ni archivos"),
            asks: said(
                "Passwords of application and system accounts are not hard-coded in scripts, configuration files or source code.",
                "Las contraseñas de cuentas de aplicación y de sistema no están escritas en guiones, archivos de configuración ni código.",
            ),
            evidence: &[CredentialAges],
        },
        Clause {
            id: "8.6.3",
            title: said(
                "Passwords of application and system accounts",
                "Contraseñas de cuentas de aplicación y de sistema",
            ),
            asks: said(
                "They are changed at the frequency of a targeted risk analysis, and on suspicion of compromise.",
                "Se cambian con la frecuencia que fije un análisis de riesgos específico, y ante la sospecha de compromiso.",
            ),
            evidence: &[Rotations, CredentialAges],
        },
        Clause {
            id: "9.4.1.1",
            title: said("Offline media backups", "Copias en soportes sin conexión"),
            asks: said(
                "Backups with cardholder data are stored in a secure location.",
                "Las copias con datos de titulares se guardan en un lugar seguro.",
            ),
            evidence: &[CopiesElsewhere, Immutability],
        },
        Clause {
            id: "10.2.1",
            title: said("Audit logs", "Registros de auditoría"),
            asks: said(
                "Audit logs are enabled and active for all system components.",
                "Los registros de auditoría están habilitados y activos en todos los componentes.",
            ),
            evidence: &[AuditTrail],
        },
        Clause {
            id: "10.3.4",
            title: said("Integrity of audit logs", "Integridad de los registros de auditoría"),
            asks: said(
                "Changes of audit log data are detected.",
                "Se detecta la modificación de los registros de auditoría.",
            ),
            evidence: &[AuditTrail, Immutability],
        },
        Clause {
            id: "10.6.1",
            title: said("Time synchronisation", "Sincronización horaria"),
            asks: said("System clocks are synchronised.", "Los relojes de los sistemas están sincronizados."),
            evidence: &[Clocks],
        },
        Clause {
            id: "12.10.1",
            title: said("Incident response plan", "Plan de respuesta a incidentes"),
            asks: said(
                "It includes procedures for business recovery and continuity, and for data backup.",
                "Incluye procedimientos de recuperación y continuidad del negocio y de copia de datos.",
            ),
            evidence: &[Policies, RestoreTests, RealRestores],
        },
    ],
};
