//! Who may do what: roles, their permissions and campaigns, and the decision.
//!
//! Deny by default. A change is permitted when, for each permission that it needs, one role of the
//! principal grants that permission in the change's campaign. Only [`Roles::authorize`] makes a
//! [`Permitted`], and what comes after takes nothing else.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use crate::identity::Principal;
use crate::operation::Change;

/// The right to one kind of change, as `lead-users:assign`. The operations name theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission(&'static str);

/// What a role grants, and where.
#[derive(Debug, Clone)]
pub struct Role {
    /// What it grants.
    pub permissions: Vec<Permission>,
    /// In which campaigns.
    pub campaigns: Campaigns,
}

/// The campaigns of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Campaigns {
    /// All of them.
    Any,
    /// These.
    Listed(Vec<i32>),
    /// Those in a claim of the token.
    Claim(String),
}

/// The roles that the configuration knows, by name.
#[derive(Debug, Clone, Default)]
pub struct Roles(BTreeMap<String, Role>);

/// The proof that a principal may make a change.
#[derive(Debug)]
pub struct Permitted {
    principal: Principal,
    change: Box<dyn Change>,
    grants: Vec<Grant>,
}

/// Which role granted a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: String,
    /// What it granted.
    pub permission: Permission,
}

/// A change that is not permitted, and each reason why.
#[derive(Debug)]
pub struct Denied {
    /// Who wanted it.
    pub principal: Principal,
    /// What was wanted.
    pub change: Box<dyn Change>,
    /// What is lacking; never empty.
    pub lacks: Vec<Lack>,
}

/// A permission that a change needs and that no role of the principal gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The permission.
    pub permission: Permission,
    /// Why it is not given.
    pub kind: LackKind,
}

/// Why a permission is not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LackKind {
    /// No role of the principal grants it anywhere; those that it has and that are known here.
    NotGranted(Vec<String>),
    /// These roles grant it, but not in this campaign.
    NotInCampaign(Vec<String>, i32),
}

impl Roles {
    /// Whether there is a role of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Decides on a change.
    ///
    /// # Errors
    ///
    /// [`Denied`], with everything that is lacking.
    pub fn authorize(
        &self,
        principal: Principal,
        change: Box<dyn Change>,
    ) -> Result<Permitted, Box<Denied>> {
        let claimed = |claim: &str, campaign| principal.campaigns(claim).any(|id| id == campaign);
        match self.decide(principal.roles(), change.as_ref(), &claimed) {
            Ok(grants) => Ok(Permitted { principal, change, grants }),
            Err(lacks) => Err(Box::new(Denied { principal, change, lacks })),
        }
    }

    /// What would permit a change, or everything that is lacking; `claimed` tells whether a claim
    /// names a campaign. It gives no right to anything.
    ///
    /// # Errors
    ///
    /// What is lacking.
    pub fn decide(
        &self,
        roles: &[String],
        change: &dyn Change,
        claimed: &dyn Fn(&str, i32) -> bool,
    ) -> Result<Vec<Grant>, Vec<Lack>> {
        let campaign = change.facts().target.campaign;
        let (mut grants, mut lacks) = (Vec::new(), Vec::new());
        for permission in change.permissions() {
            match self.grant(roles, permission, campaign, claimed) {
                Ok(grant) => grants.push(grant),
                Err(lack) => lacks.push(lack),
            }
        }
        if lacks.is_empty() && !grants.is_empty() { Ok(grants) } else { Err(lacks) }
    }

    fn grant(
        &self,
        roles: &[String],
        permission: Permission,
        campaign: i32,
        claimed: &dyn Fn(&str, i32) -> bool,
    ) -> Result<Grant, Lack> {
        let held = || roles.iter().filter_map(|name| self.0.get_key_value(name));
        let granting = || held().filter(|(_, role)| role.permissions.contains(&permission));
        let in_campaign = granting().find(|(_, role)| match &role.campaigns {
            Campaigns::Any => true,
            Campaigns::Listed(campaigns) => campaigns.contains(&campaign),
            Campaigns::Claim(claim) => claimed(claim, campaign),
        });
        let names = |roles: &mut dyn Iterator<Item = (&String, &Role)>| {
            roles.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        match in_campaign {
            Some((name, _)) => Ok(Grant { role: name.clone(), permission }),
            None if granting().next().is_some() => {
                let kind = LackKind::NotInCampaign(names(&mut granting()), campaign);
                Err(Lack { permission, kind })
            }
            None => Err(Lack { permission, kind: LackKind::NotGranted(names(&mut held())) }),
        }
    }
}

impl FromIterator<(String, Role)> for Roles {
    fn from_iter<I: IntoIterator<Item = (String, Role)>>(roles: I) -> Self {
        Self(roles.into_iter().collect())
    }
}

// === impl Permitted ===

impl Permitted {
    /// Who may make the change.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What may be done.
    #[must_use]
    pub fn change(&self) -> &dyn Change {
        self.change.as_ref()
    }

    /// What permitted it: a role for each permission that the change needs.
    #[must_use]
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }
}

// === impl Denied ===

impl Denied {
    /// Whether a permission is not granted at all; else it is the campaign that stands against it.
    #[must_use]
    pub fn lacks_permission(&self) -> bool {
        self.lacks.iter().any(|lack| matches!(lack.kind, LackKind::NotGranted(_)))
    }
}

impl Display for Denied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, lack) in self.lacks.iter().enumerate() {
            if index > 0 {
                formatter.write_str("; ")?;
            }
            lack.fmt(formatter)?;
        }
        Ok(())
    }
}

impl Display for Lack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permission = self.permission;
        match &self.kind {
            LackKind::NotGranted(roles) => match roles.as_slice() {
                [] => write!(
                    formatter,
                    "the token names no role that is known here, so {permission} is not granted"
                ),
                [role] => write!(formatter, "role {role} does not grant {permission}"),
                roles => {
                    write!(formatter, "none of the roles {} grants {permission}", roles.join(", "))
                }
            },
            LackKind::NotInCampaign(roles, campaign) => match roles.as_slice() {
                [role] => {
                    write!(
                        formatter,
                        "role {role} does not grant {permission} in campaign {campaign}"
                    )
                }
                roles => write!(
                    formatter,
                    "none of the roles {} grants {permission} in campaign {campaign}",
                    roles.join(", ")
                ),
            },
        }
    }
}

// === impl Permission ===

impl Permission {
    pub(crate) const fn named(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name, as roles list it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl Display for Grant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In every record: not by way of a format.
        [&self.role, ": ", self.permission.as_str()]
            .into_iter()
            .try_for_each(|part| formatter.write_str(part))
    }
}
