//! Where food is handed out (RULES.md §10).

use super::person::{Place, Provider};

impl Provider {
    /// In the order in which customers choose by number.
    pub const ALL: [Self; 3] = [Self::PasarJaya, Self::DharmaJaya, Self::FoodStation];

    /// Places to choose by number, as stored; none for Foodstation, which has a single one.
    pub const fn places(self) -> &'static [&'static str] {
        match self {
            Self::PasarJaya => &[
                "Jakgrosir Kedoya",
                "Gerai Rusun Pesakih",
                "Mini DC Kec. Cengkareng",
                "Jakmart Bambu Larangan",
            ],
            Self::DharmaJaya => &["Duri Kosambi", "Kapuk Jagal", "Pulogadung", "Cakung"],
            Self::FoodStation => &[],
        }
    }

    /// The place with this number, counted from 1.
    pub fn place(self, number: usize) -> Option<Place> {
        let name = self.places().get(number.checked_sub(1)?)?;
        Some(Place { provider: self, sub: Some((*name).to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_place_is_stored_as_provider_and_name() {
        assert_eq!(Provider::PasarJaya.place(1).unwrap().lokasi(), "PASARJAYA - Jakgrosir Kedoya");
        assert_eq!(Provider::DharmaJaya.place(4).unwrap().lokasi(), "DHARMAJAYA - Cakung");
        assert_eq!(Provider::DharmaJaya.place(0), None);
        assert_eq!(Provider::DharmaJaya.place(5), None);
        assert_eq!(Provider::FoodStation.place(1), None);
    }
}
