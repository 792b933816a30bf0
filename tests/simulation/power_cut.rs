//! What a power cut may leave: every disk that is possible, as far as they can be counted.

use warren_storage::FaultyDisk;

use warren_storage::Random;

/// Disks that are looked at for one moment: all that are possible if there are no more, or about so many.
const DISKS_PER_MOMENT: usize = 256;

/// Hands `look` the disks that a power cut on `then` may leave, and answers how many: all of them; or every subset of
/// what is at stake, lost or kept whole, and some at random; or, where those are too many as well, some at random.
pub(crate) fn every_disk(then: &FaultyDisk, random: &mut Random, mut look: impl FnMut(&FaultyDisk)) -> usize {
    let outcomes = outcomes(then);
    let mut crash = |choices: &[usize]| {
        let mut choices = choices.iter().copied();
        look(&then.crash(&mut |_| choices.next().unwrap_or_default()));
    };
    if let Some(count) = few(&outcomes) {
        combinations(&outcomes).for_each(|choices| crash(&choices));
        return count;
    }
    let subsets: Vec<usize> = outcomes.iter().map(|count| 2.min(*count)).collect();
    let count = few(&subsets).unwrap_or_default();
    if count > 0 {
        combinations(&subsets).for_each(|kept| crash(&whole(&kept, &outcomes)));
    }
    let more = DISKS_PER_MOMENT - count + DISKS_PER_MOMENT / 4;
    for _ in 0..more {
        crash(&outcomes.iter().map(|count| random.below(*count)).collect::<Vec<usize>>());
    }
    count + more
}

/// How many outcomes each thing has that is at stake. The first is the folder's unsynced changes, the others are blocks.
fn outcomes(then: &FaultyDisk) -> Vec<usize> {
    let mut outcomes = Vec::new();
    then.crash(&mut |count| {
        outcomes.push(count);
        0
    });
    outcomes
}

/// How many combinations there are, if they are few.
fn few(outcomes: &[usize]) -> Option<usize> {
    let count = outcomes.iter().try_fold(1_usize, |all, count| all.checked_mul(*count));
    count.filter(|count| *count <= DISKS_PER_MOMENT)
}

/// The outcomes in which what is kept is kept as it was written last: the last two of a block are torn ones.
fn whole(kept: &[usize], outcomes: &[usize]) -> Vec<usize> {
    let last = |at: usize| outcomes[at] - if at == 0 { 1 } else { 3 };
    kept.iter().enumerate().map(|(at, kept)| if *kept == 0 { 0 } else { last(at) }).collect()
}

/// All combinations of outcomes whose numbers are known, like an odometer.
fn combinations(outcomes: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let mut next = Some(vec![0; outcomes.len()]);
    std::iter::from_fn(move || {
        let now = next.clone()?;
        let turned = next.as_mut().and_then(|wheels| {
            let at = wheels.iter().zip(outcomes).rposition(|(wheel, count)| wheel + 1 < *count)?;
            wheels[at] += 1;
            wheels[at + 1..].fill(0);
            Some(())
        });
        if turned.is_none() {
            next = None;
        }
        Some(now)
    })
}
