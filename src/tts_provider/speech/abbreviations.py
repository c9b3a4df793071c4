"""Abbreviations whose full stop need not end a sentence."""

# fmt: off
INNER_ABBREVIATIONS = frozenset(
    """
    v exp eq eqs secs chs dr drs mr mrs ms mx messrs mme mlle mgr prof hon rev fr sen rep gov gen
    col lt sgt capt cmdr
    cpl maj adm pres supt e.g eg i.e ie viz cf vs approx ca circa al fig figs vol vols pp p ed
    eds ch sec no nos art op mt ft est dept univ al tel ext fax nr bzw z.b d.h u.a str hr fr usw
    abb sog ggf ave c.f a.k.a ver vers jan feb mar apr jun jul aug sep sept oct nov dec mon tue
    tues wed thu thur thurs fri
    """.split()  # noqa: SIM905 - a list of a hundred strings reads worse
) - {"ave", "no", "mar", "sec", "fri", "mon", "est", "usw"}
"""A name, a number or the like follows: never an end."""

LAST_ABBREVIATIONS = frozenset(
    """
    etc inc ltd co corp bros jr sr st ave blvd rd hwy dr. esq ph.d m.d b.a m.a d.d.s a.m p.m u.s
    u.k u.n e.u l.a d.c a.d b.c c.e b.c.e p.s n.b assn dist mar sec est mon fri no usw ln ct pl
    sq bldg ste rm incl excl elev fn
    """.split()  # noqa: SIM905
)
"""They may stand at the end; then the next word tells."""

SENTENCE_STARTS = frozenset(
    """
    a an the this that these those i he she it we you they my your his her its our their there
    here in on at by for from to of with without but and so or yet nor then if when while
    because since although though after before until as what why how who whom whose which where
    is are was were do does did has have had can could will would should may might must no not
    yes nobody everyone someone all both each every some many most few several one two now today
    later let please i'm i've i'll i'd he's she's it's we're you're they're that's there's
    what's let's don't didn't however meanwhile moreover nevertheless
    """.split()  # noqa: SIM905
)
"""Words that begin a sentence rather than follow an abbreviation as its name or number."""
# fmt: on
