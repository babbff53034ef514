//! Esquema Nacional de Seguridad, by the numbering of Real Decreto 311/2022. In that of 2010 backups were mp.info.9, and many
//! checklists still have it.

use super::Evidence::*;
use super::{Clause, Framework};
use crate::report::say::said;

pub const FRAMEWORK: Framework = Framework {
    tag: "ens",
    name: said("National Security Framework of Spain (ENS)", "Esquema Nacional de Seguridad (ENS)"),
    edition: said("Real Decreto 311/2022, of 3 May, annex II", "Real Decreto 311/2022, de 3 de mayo, anexo II"),
    remark: Some(said(
        "Measures are numbered as in Real Decreto 311/2022, where backups are mp.info.6. In the decree it replaced \
         (Real Decreto 3/2010) they were mp.info.9.",
        "Las medidas se numeran según el Real Decreto 311/2022, en el que las copias de seguridad son mp.info.6. \
         En el decreto que este derogó (Real Decreto 3/2010) eran mp.info.9.",
    )),
    clauses: &[
        Clause {
            id: "mp.info.6",
            title: said("Backups", "Copias de seguridad"),
            asks: said(
                "Backups that allow lost data to be recovered to a set age; a procedure that states how often, where they are kept and who has access.",
                "Copias que permitan recuperar datos perdidos con una antigüedad determinada; procedimiento con la frecuencia, el lugar de almacenamiento y el control de acceso.",
            ),
            evidence: &[Policies, Runs, AttainedRpo, Encryption],
        },
        Clause {
            id: "mp.info.6.r1",
            title: said("Backups: recovery tests", "Copias de seguridad: pruebas de recuperación"),
            asks: said(
                "The procedures for backing up and restoring are tested regularly.",
                "Los procedimientos de copia y de restauración se prueban con regularidad.",
            ),
            evidence: &[RestoreTests, MeasuredRto, IntegrityChecks],
        },
        Clause {
            id: "mp.info.6.r2",
            title: said("Backups: protection of the copies", "Copias de seguridad: protección de las copias"),
            asks: said(
                "At least one copy kept apart, in another place, so that one incident cannot reach both the original and the copy.",
                "Al menos una copia separada, en lugar diferente, de modo que un incidente no pueda afectar a la vez al original y a la copia.",
            ),
            evidence: &[CopiesElsewhere, Immutability],
        },
        Clause {
            id: "mp.si.2",
            title: said("Cryptography on media", "Criptografía"),
            asks: said(
                "Information on removable or remote media is protected by cryptography.",
                "La información de los soportes se protege con mecanismos criptográficos.",
            ),
            evidence: &[Encryption],
        },
        Clause {
            id: "op.exp.10",
            title: said("Protection of cryptographic keys", "Protección de claves criptográficas"),
            asks: said(
                "Keys are protected through their whole life: made, distributed, archived after use, destroyed; retired keys are kept apart.",
                "Las claves se protegen durante todo su ciclo de vida: generación, distribución, archivo posterior y destrucción; las retiradas se guardan aparte.",
            ),
            evidence: &[KeyLifecycle],
        },
        Clause {
            id: "op.acc.5",
            title: said("Authentication mechanism (external users)", "Mecanismo de autenticación (usuarios externos)"),
            asks: said(
                "Credentials are changed as often as the security policy says, and at once on suspicion.",
                "Las credenciales se cambian con la periodicidad que marque la política de seguridad y de inmediato ante la sospecha de que se hayan visto comprometidas.",
            ),
            evidence: &[Rotations, CredentialAges],
        },
        Clause {
            id: "op.acc.6",
            title: said(
                "Authentication mechanism (users of the organisation)",
                "Mecanismo de autenticación (usuarios de la organización)",
            ),
            asks: said(
                "The same for users of the organisation and the accounts of its services.",
                "Lo mismo para los usuarios de la organización y las cuentas de sus servicios.",
            ),
            evidence: &[Rotations, CredentialAges],
        },
        Clause {
            id: "op.exp.5",
            title: said("Change management", "Gestión de cambios"),
            asks: said(
                "Changes of the system are controlled and recorded.",
                "Los cambios en el sistema se controlan y quedan registrados.",
            ),
            evidence: &[Changes, Deletions],
        },
        Clause {
            id: "op.exp.8",
            title: said("Record of activity", "Registro de la actividad"),
            asks: said(
                "Activity is recorded: what was done, when, by whom and with what result; the record is kept and protected.",
                "Se registra la actividad: qué se hizo, cuándo, quién y con qué resultado; el registro se conserva y se protege.",
            ),
            evidence: &[AuditTrail, Clocks],
        },
        Clause {
            id: "op.cont.2",
            title: said("Continuity plan", "Plan de continuidad"),
            asks: said(
                "A plan that says how services are recovered, and with which means.",
                "Un plan que establezca cómo se recuperan los servicios y con qué medios.",
            ),
            evidence: &[Policies, CopiesElsewhere],
        },
        Clause {
            id: "op.cont.3",
            title: said("Periodic tests", "Pruebas periódicas"),
            asks: said(
                "The continuity plan is tested periodically, and what the tests show is corrected.",
                "El plan de continuidad se prueba periódicamente y se corrige lo que las pruebas revelan.",
            ),
            evidence: &[RestoreTests, MeasuredRto, RealRestores],
        },
    ],
};
