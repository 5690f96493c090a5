"""Names of raw tracks, as studios give them: which instrument `03_LeadVoxDT.wav` or `Keys-Hammond Top-M81.wav` is.

    sound_of_name("09_ElecGtr1.wav")     the sound of an electric guitar; None: no rule knows the name

A name becomes words (`elec gtr`), and the first rule that is found in them decides; names written without capitals
(`elecgtr`) have no blanks, so rules allow for both. Rooms, effects and samples of anything are no instrument: unknown.
"""

import functools
import re
from pathlib import PurePosixPath

from tutti.datasets.hierarchy import Sound, sounds_of

# One sound a line, in the order of the rules; patterns are separated by commas. A class that may sound as well is
# masked: cymbals in a drum kit, trumpets in brass (the mask of a family that is present hides its classes only).
_RULES = sounds_of(r"""
    ~ all: pads? ?s?fx, s?fx ?pad, s?fx ?loop, samples? ?s?fx, click ?track, count ?in, time ?code, talk ?back
    synth = synthesizer ~ bowed_string: synth ?(strings?|fiddle|violin|cello), strings? ?(pad|synth)
    synth = synthesizer ~ electric_guitar, plucked_string: synth ?(gtr|guitar), (gtr|guitar) ?synth
    synth = synthesizer ~ key, piano: piano ?synth, synth ?piano, synth ?organ
    synth = synthesizer ~ brass, woodwind: synth ?(brass|horns?|flute)
    ~ voice, singer, synth: (synth|electro) ?(choir|vo[xc]), vocoder, talk ?box
    synth = synthesizer ~ electric_bass: bass ?synth, synth ?bass, sub ?bass, bass ?s+ub\b, moog ?bass
    key = organ: vox ?organ, organ(?!i)
    voice ~ voice, percussion, drums, singer: beat ?box, vo(x|cal) ?perc
    voice = voice ~ singer: (vox|vocals?|voc\b|voice) ?s?fx, s?fx ?vo[xc], rap(per|ping|s)?\b, scream, growl, shout
    voice = voice ~ singer: lead ?vox ?s?fx
    voice ~ voice, singer: whisper, speech, spoken, narrat, sample ?choir, choir ?sample, dialogue
    voice ~ voice: (male|female) ?speaker
    percussion: perc ?(choir|solo)
    voice/singer = voice: (?<!gtr)(?<!gtr )vox(?! ?(ac|amp)), vocal, \bvocs?\b, voice, singer, choir, \bb?g?vs?\b
    voice/singer = voice: backing ?vo, gangs?\b, soprano(?! ?sax), \bchant, humming, adlib
    percussion/drums = drums ~ percussion, synth: drum ?machine, drum ?loop, breaks?\b, beats?\b, main ?loop, loop ?drum
    percussion: hand ?drum, war ?drum, frame ?drum, talking ?drum, tamb(o(ur(ine)?)?)?(?![a-z]), tambourine, shaker
    percussion = mallet_percussion: steel ?(drum|pan)
    percussion ~ drums: bass ?drum(?!s), gran ?cassa
    percussion/drums = drums ~ percussion: over ?heads?, \bo ?hs?\b, drum, \bdrms?\b, \bkit\b, brush ?kit, brushes
    percussion/drums = drums ~ percussion: kick ?snare, snare ?(and ?)?cymbal
    percussion/drums = drums: kick, \bki?k\b, snare, \bsnr?\b, rim ?shot, \brim\b, side ?stick, cross ?stick
    percussion: finger ?cymbal
    percussion/drums = cymbals ~ drums: hi ?hat, \bhats?(?![a-z]), \bhat ?(closed|open|pedal|sample|s?fx), \bhh\b
    percussion/drums = cymbals ~ drums: crash, \brides?\b, china ?cym, splash, cymbals, cymbal ?(roll|od|s|wash|wells)
    percussion = cymbals ~ drums: cymbal
    percussion: cow ?bell, sleigh ?bell, hand ?bell, bongo, conga, djembe, maraca, claps?(?![a-z]), snaps?\b, triangle
    percussion: wood ?block, claves?(?![a-z]), guiro, cabasa, cajon, timbale, timp(?!o), taiko, gong
    percussion: castanet, chimes?, daiko, rain ?stick, tabla, darbuka
    percussion: doumbek, bodhran, surdo, pandeiro, agogo, kalimba, bombo
    percussion: anvil, wine ?glass, tubular ?bell, guasa, guache
    percussion: school ?bell, clicks?\b, finger ?click, metal ?hit, stomps?\b
    percussion: llamador, udu\b, cuica, vibra ?slap, sticks?\b, bells?(?! ?piano)
    percussion = mallet_percussion: glock, vibra, vibro, \bvibes\b, marimba, xylo, chromatic ?perc
    percussion ~ percussion: perc
    percussion/drums = drums: \btoms?, (low|high|mid|floor|rack) ?tom
    key = organ: hammond, leslie, farfisa, harmonium
    key ~ piano: rhodes, wurli, e(l|lec|lectric)? ?piano, \bep\b
    key: clav(i(net)?)?(?![a-z]), harpsi, melodica, celest
    key = accordion: accord[ie]an, accordion, concertina, bandoneon
    key ~ piano, percussion: toy ?piano, bell ?piano
    key ~ all: mellotron
    key/piano = piano: piano, \bpno\b, upright ?pno
    key ~ piano, synth, key: keys?(?![a-z]), keyboard
    plucked_string = guitar ~ electric_guitar, acoustic_guitar: lap ?steel, slide ?(gtr|guitar), pedal ?steel
    plucked_string/acoustic_guitar = acoustic_guitar: ac(c?ous(tic)?)? ?(gtr|guitar), nylon, classical ?(gtr|guitar)
    plucked_string/acoustic_guitar = acoustic_guitar: acoustic(?! ?bass), spanish ?(gtr|guitar), twelve ?string
    plucked_string/electric_guitar = electric_guitar: e(l|le?c|lectric)? ?(gtr|guitar), e-? ?bow\b, feed ?back
    plucked_string/electric_guitar = electric_guitar: (dist(orted)?|clean|lead|crunch) ?(el(ec(tric)?)? ?)?(gtr|guitar)
    plucked_string/electric_guitar = electric_guitar: (gtr|guitar) ?rev ?s?fx, wah ?(gtr|guitar), power ?chord
    plucked_string = guitar ~ acoustic_guitar: dobro, resonator
    plucked_string ~ acoustic_guitar: guita?lele
    plucked_string/electric_bass = bass: bass ?(gtr|guitar)
    plucked_string = guitar ~ electric_guitar, acoustic_guitar: gtr, guitar
    plucked_string = banjo: banjo
    plucked_string = mandolin: mandolin, \bmando\b
    plucked_string = ukulele: uk[ue]lele, \buke\b
    plucked_string: sitar, auto ?harp, dulcimer, psaltery, zither, bouzouki, \boud\b, \bkoto\b, charango, \blute\b
    woodwind: harmonica, blues ?harp, bagpipe, bassoon, oboe, english ?horn, cor ?anglais, piccolo, recorder
    woodwind: pan ?(pipe|flute), ethno ?flute, whistle
    plucked_string: \bharp(?!si)
    woodwind = saxophone: sax, \b(alto|tenor|bari)(tone)? ?sax
    woodwind = clarinet: clarinet
    woodwind = flute: flute
    brass = trombone: trombone, \btbn\b
    brass = trumpet: trumpet, \btpt\b, cornet, flugel
    brass: french ?horn, tuba, \btub\b, euphonium, didgeridoo
    brass ~ woodwind, brass: \bhorns?
    brass ~ brass: brass
    woodwind ~ woodwind: wood ?winds?
    bowed_string = cello: cello, celli
    bowed_string/violin = violin: violin, fiddle, \bvlns?\b
    bowed_string: viola, \bvlas?\b
    bowed_string = bass: (double|upright|contra|acoustic) ?bass
    ~ plucked_string, bowed_string, electric_bass: bass ?mic ?peer
    plucked_string = bass ~ electric_bass, bowed_string: bass ?mic\b
    plucked_string/electric_bass = bass: bass
    bowed_string ~ violin, bowed_string: strings?
    synth = synthesizer: synth, \bpads?\b, \barps?\b, moog, theremin
    percussion/drums = drums ~ all: loops?\b
""")
_PATTERNS = [(re.compile(pattern), sound) for pattern, sound in _RULES.items()]

_NUMBER = re.compile(r"\d{1,3}[ _.-]+(?=\D)")
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_MIX = re.compile(
    r"mix|master|preview|(.*[ _-])?(mix ?down|(full|rough|stereo|final|unmastered)[ _-]?mix|unmastered([ _-]?wav)?)",
    re.IGNORECASE,
)
_BLEEDS = re.compile(r"leak|bleed|spill|live ?room")
_SIDE = re.compile(r"(.+?)[ ._-]?([LR])")


def sound_of_name(name: str) -> Sound | None:
    """Find the sound of a track's name, or of an instrument's name in the metadata of Mixing Secrets.

    Args:
        name: with or without number and suffix.

    Returns:
        None where no rule knows it.
    """
    return _sound_of_words(words_of(name))


@functools.lru_cache(maxsize=4096)
def _sound_of_words(words: str) -> Sound | None:
    return next((sound for pattern, sound in _PATTERNS if pattern.search(words)), None)


def words_of(name: str) -> str:
    """Split a track's name into small words: `03_LeadVoxDT.wav` is `lead vox dt`."""
    return " ".join(_WORD.findall(_stem(name)[:200])).lower()


def _stem(name: str) -> str:
    path = PurePosixPath(name.rpartition("/")[2])
    stem = path.stem if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{1,3}", path.suffix) else path.name
    return _NUMBER.sub("", stem, count=1) if _NUMBER.match(stem) else stem


def is_numbered(name: str) -> bool:
    """Whether a file's name begins with the number of a track."""
    return _NUMBER.match(name) is not None


def is_mix_name(name: str) -> bool:
    """Whether a file among the tracks of a song is their mix."""
    return _MIX.fullmatch(_stem(name)) is not None and sound_of_name(name) is None


def hears_others(name: str) -> bool:
    """Whether a microphone, by its track's name, hears more than its own instrument."""
    return _BLEEDS.search(words_of(name)) is not None


def side_of(name: str) -> tuple[str, str] | None:
    """Split the name of one side of a stereo pair, `05_Piano.L.wav`, into its stem and `L` or `R`; None: no side."""
    stem = PurePosixPath(name).stem
    match = _SIDE.fullmatch(stem)
    return None if match is None or match[1][-1].isupper() else (match[1], match[2])
