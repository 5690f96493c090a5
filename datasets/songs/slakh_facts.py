"""Facts of Slakh2100 that its archives do not hold: official lists of tracks, bad stems, and what patches sound like.

The lists (of slakh-utils, MIT, and of slakh-pytorch-dataset) name tracks by number. Why redux and split2 exist: 308
MIDI files occur two to six times, and 146 of them in two of the original splits.

A stem's General MIDI program says what its composer wanted; what is heard is a sampler's patch out of the pool of that
program (slakh-generation). So an accordion sounds as an organ, a whistle as a flute, and synthesizer strings are an
ensemble of acoustic ones. Programs without a pool (synthesizer basses and brass, orchestra hits, effects, all above
95) were never rendered; what is said of them here holds should a stem exist nonetheless.
"""

from tutti.datasets.hierarchy import UNKNOWN_SOUND, Sound, sounds_of
from tutti.datasets.record import DRUMS

NUM_TRACKS = 2_100
_LAST_TRAIN, _LAST_VALIDATION = 1_500, 1_875

# Tracks that redux leaves out: 211 of train, 105 of validation, 74 of test. Of each MIDI file one track is left.
_OMITTED = """
    49 77 146 170 212 232 240 251 256 280 296 299 350 356 365 366 386 401 422 424 425 450 470 476 486
    495 504 521 536 539 554 566 602 611 613 620 623 640 642 646 647 675 678 688 697 699 706 714 715 719
    720 732 744 750 757 762 764 773 790 796 800 810 820 821 829 833 847 848 851 862 877 884 895 899 916
    919 925 933 934 935 942 956 960 961 962 964 969 981 982 990 997 1000 1011 1020 1028 1046 1052 1061
    1066 1067 1068 1071 1079 1081 1087 1090 1093 1099 1109 1111 1116 1117 1120 1129 1130 1132 1133 1137
    1139 1140 1143 1144 1147 1152 1156 1162 1169 1171 1176 1179 1180 1182 1186 1187 1189 1191 1200 1207
    1209 1210 1219 1220 1227 1230 1233 1235 1239 1240 1248 1256 1261 1282 1283 1289 1291 1292 1294 1295
    1299 1304 1305 1306 1308 1312 1316 1317 1319 1325 1326 1329 1338 1344 1345 1348 1352 1357 1371 1372
    1378 1391 1400 1402 1407 1410 1412 1416 1417 1423 1424 1429 1435 1436 1438 1441 1442 1444 1445 1446
    1447 1450 1455 1467 1469 1470 1472 1478 1484 1490 1493 1498 1499 1506 1534 1535 1536 1538 1541 1543
    1544 1547 1549 1550 1553 1555 1562 1567 1569 1572 1577 1585 1587 1593 1596 1600 1601 1603 1608 1609
    1610 1617 1627 1633 1636 1637 1638 1640 1648 1651 1658 1663 1667 1668 1669 1671 1673 1680 1682 1683
    1684 1686 1687 1699 1704 1711 1712 1721 1722 1726 1728 1729 1734 1736 1740 1748 1752 1755 1759 1764
    1765 1767 1780 1784 1786 1794 1798 1800 1801 1808 1810 1811 1816 1817 1818 1822 1829 1831 1832 1833
    1834 1839 1842 1844 1846 1847 1850 1853 1854 1857 1859 1862 1863 1864 1866 1868 1871 1872 1879 1885
    1890 1894 1909 1910 1912 1914 1915 1919 1921 1922 1923 1924 1926 1933 1938 1939 1941 1942 1944 1946
    1953 1958 1964 1966 1969 1970 1971 1979 1983 1984 1988 1991 1992 1999 2006 2009 2011 2012 2015 2021
    2022 2025 2027 2028 2033 2034 2035 2039 2041 2043 2055 2057 2058 2059 2060 2065 2066 2068 2071 2072
    2073 2075 2076 2077 2078 2080 2085 2089 2091 2097 2099 2100
"""
OMITTED = frozenset(map(int, _OMITTED.split()))

# Tracks that split2 moves, by where they go: as many leave a split as come to it.
_MOVED = {
    "train": """
    1506 1534 1535 1536 1538 1541 1543 1544 1547 1549 1550 1555 1562 1567 1569 1572 1585 1587 1593 1596
    1600 1601 1603 1609 1610 1617 1627 1633 1636 1637 1638 1640 1651 1663 1667 1668 1669 1671 1673 1680
    1682 1683 1684 1686 1687 1699 1704 1711 1712 1721 1722 1726 1728 1729 1734 1736 1740 1752 1755 1759
    1764 1780 1784 1786 1798 1800 1801 1808 1810 1811 1816 1817 1818 1822 1829 1831 1832 1833 1834 1839
    1842 1846 1847 1850 1853 1854 1857 1859 1862 1863 1864 1866 1871 1872 1879 1885 1894 1909 1914 1915
    1919 1921 1922 1926 1938 1939 1942 1944 1946 1953 1958 1964 1969 1971 1979 1983 1984 1988 1992 1999
    2006 2009 2011 2021 2025 2027 2028 2033 2034 2035 2039 2043 2055 2057 2058 2060 2065 2066 2068 2073
    2075 2076 2077 2078 2080 2085 2089 2091 2097 2099 2100
    """,
    "validation": """
    26 113 121 135 193 201 205 216 221 224 227 238 285 286 288 294 319 329 343 349 370 380 381 388 404
    409 410 428 430 441 464 467 483 513 560 572 603 652 654 668 682 684 686 707 712 722 770 804 849 860
    868 885 902 922 936 941 943 972 984 985 1013 1015 1033 1034 1038 1045 1051 1055 1080 1083 1096 1122
    1153 1173 1174 1202 1216 1228 1252 1258 1269 1274 1298 1303 1314 1331 1340 1356 1361 1397 1401 1433
    1448 1486 1890 1910 1912 1923 1924 1941 1966 1970 2012 2015 2022 2041 2072
    """,
    "test": """
    3 66 73 74 235 244 271 339 357 372 403 426 429 583 591 595 604 622 638 702 710 718 752 818 838 855
    888 889 973 983 1005 1016 1024 1032 1060 1072 1075 1128 1192 1222 1223 1229 1243 1249 1263 1270 1272
    1296 1309 1318 1370 1380 1388 1393 1440 1480 1491 1510 1554 1582 1606 1645 1675 1685 1691 1745 1785
    1806 1821 1856
    """,
}
MOVED = {int(number): split for split, numbers in _MOVED.items() for number in numbers.split()}

# Stems to leave out, with what is wrong: the list of slakh-pytorch-dataset; endless tones: issue 21 of slakh-utils.
_BAD = """
    white noise: 357/S03 377/S07 385/S00 398/S00 400/S00 629/S01 633/S01 749/S01 1629/S00
    audio is missing: 1876/S01 1908/S05 1993/S01 2024/S13
    sounds at another pitch than its notes: 496/S01 1918/S10 1929/S04 1931/S01 1937/S03
    notes are longer than their sound: 404/S03 737/S01 893/S01
    notes are shorter than their sound: 262/S01
    one endless tone: 1500/S12 1500/S13
"""
BAD_STEMS: dict[tuple[int, str], str] = {
    (int(number), stem): what.strip()
    for what, _, stems in (line.partition(":") for line in _BAD.strip().splitlines())
    for number, _, stem in (name.partition("/") for name in stems.split())
}
# Tracks without the S00 that their metadata names: issue 20 of slakh-utils.
WITHOUT_S00 = frozenset((446, 487, 590, 1009, 1672, 1740, 1794))

# What is heard of a program where the patch does not tell: numbers count from 0, as in metadata.yaml.
_PROGRAMS = sounds_of("""
    key/piano = piano: 0, 1, 3
    key ~ piano: 2, 4, 5, 6, 7
    percussion = mallet_percussion: 8, 9, 10, 11, 12, 13, 14, 15
    key = organ: 16, 17, 18, 19, 20, 21, 22, 23
    plucked_string/acoustic_guitar = acoustic_guitar: 24, 25
    plucked_string/electric_guitar = electric_guitar: 26, 27, 28, 29, 30, 31
    bowed_string = bass: 32, 43
    plucked_string/electric_bass = bass: 33, 34, 35, 36, 37
    synth = synthesizer ~ plucked_string, electric_bass: 38, 39
    bowed_string/violin = violin: 40
    bowed_string: 41
    bowed_string = cello: 42
    bowed_string ~ bowed_string, violin: 44, 45, 48, 49, 50, 51
    plucked_string: 46
    percussion: 47
    voice ~ voice, singer: 52, 53, 54
    ~ all: 55
    brass = trumpet: 56, 59
    brass = trombone: 57
    brass: 58, 60
    brass ~ brass: 61
    synth = synthesizer ~ brass: 62, 63
    woodwind = saxophone: 64, 65, 66, 67
    woodwind: 68, 69, 70
    woodwind = clarinet: 71
    woodwind ~ woodwind: 72
    woodwind = flute: 73, 74, 75, 76, 77, 78, 79
    synth = synthesizer: 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95
    ~ all: 96, 97, 98, 99, 100, 101, 102, 103, 120, 121, 122, 123, 124, 125, 126, 127
    plucked_string ~ plucked_string: 104, 105, 106, 107
    percussion: 108, 112, 113
    woodwind ~ woodwind: 109, 111
    bowed_string ~ bowed_string, violin: 110
    percussion ~ percussion: 114
    percussion ~ percussion, drums: 115, 116, 117, 118, 119
    percussion/drums = drums: 128
""")

# What is heard of a patch: `plugin_name`, without the sampler's `.nkm`.
_PATCHES = sounds_of("""
    key/piano = piano: alicias_keys, august_foerster_grand, concert_grand, grand_piano, ragtime_piano, the_gentleman
    key/piano = piano: the_giant_hard_and_tough, the_giant_modern_studio, the_giant_vibrant, the_grandeur, upright_piano
    key: clavinet, harpsichord, scarbee_clavinet_full
    key ~ piano: e_piano, electric_piano, scarbee_a_200, scarbee_mark_i, scarbee_pianet, wurly_ep
    key = organ: fever, house_cat, jazz_organ, musicology, outta_space, transistor_compact, transistor_continental
    key = organ: organ_kh_floeten_1_manual, organ_kh_grprplenum_manual
    key = organ: tonewheel_organ_b3, tonewheel_organ_c3, tonewheel_organ_m3
    percussion = mallet_percussion: celesta, glockenspiel, glockenspiel_essential, marimba, marimba_essential, xylophone
    percussion = mallet_percussion: xylophone_essential, tubular_bells_metal, tubular_bells_wood
    percussion = mallet_percussion: hybrid_keys_concert_marimba, hybrid_keys_futurebells, hybrid_keys_glockenspiel
    percussion = mallet_percussion: hybrid_keys_antique_toy, hybrid_keys_hot_tropics, hybrid_keys_tube_vibraphone
    percussion: timpani, timpani_hits
    percussion/drums = drums: ar_modern_sparkle_kit_full, ar_modern_white_kit_full, funk_kit, garage_kit_lite, pop_kit
    percussion/drums = drums: session_kit_full, stadium_kit_full, street_knowledge_kit
    plucked_string/acoustic_guitar = acoustic_guitar: agml2.component, nylon_guitar, nylon_guitar2
    plucked_string/electric_guitar = electric_guitar: elektrik_guitar, funk_guitar, harmonic_guitar, rhythm_rock_guitar
    plucked_string/electric_guitar = electric_guitar: rock_guitar, solo_guitar
    plucked_string/electric_guitar = electric_guitar: jazz_guitar, jazz_guitar2, jazz_guitar3, jazz_guitar4
    plucked_string/electric_bass = bass: classic_bass, funk_bass, pop_bass, scarbee_jay_bass_both, scarbee_mm_bass
    plucked_string/electric_bass = bass: scarbee_jay_bass_slap_both, scarbee_pre_bass, scarbee_rickenbacker_bass
    plucked_string/electric_bass = bass: scarbee_rickenbacker_bass_palm_muted
    plucked_string: harp
    bowed_string = bass: double_bass_ensemble, double_bass_solo, jazz_upright, upright_bass, upright_bass2
    bowed_string/violin = violin: violin_ensemble, violin_solo
    bowed_string: viola_ensemble, viola_solo
    bowed_string = cello: cello_ensemble, cello_solo
    bowed_string ~ bowed_string, violin: string_ensemble, string_ensemble_essential
    bowed_string ~ bowed_string, violin: session_strings_pro_2_ensemble_modern
    bowed_string ~ bowed_string, violin: session_strings_pro_2_ensemble_traditional
    voice ~ voice, singer: choir_a, choir_e, choir_o
    brass = trumpet: flugelhorn, mute_trumpet, muted_trumpet, trumpet, trumpet_1, trumpet_2, trumpet_section
    brass = trombone: bass_trombone, tenor_trombone, trombone, trombone_section
    brass: horn_1_essential, horn_2_essential, tuba
    brass ~ brass: brass_quartet_essential
    brass ~ brass, woodwind: session_horns_pro_keyswitch_60s_horns, session_horns_pro_keyswitch_generic_section
    woodwind = saxophone: alto_sax_vintage_solo, alto_saxophone, baritone_sax_vintage_solo, baritone_saxophone
    woodwind = saxophone: saxophone_essential, saxophone_section, saxophones_essential, tenor_sax, tenor_saxophone
    woodwind = clarinet: clarinet, clarinet_combi, clarinet_essential, clarinets_essential
    woodwind = flute: flute, flute_essential, flutes_essential
    woodwind: bassoon, bassoon_combi, bassoon_essential, bassoons_essential, english_horn
    woodwind: french_oboe, oboe, oboe_essential, oboes_essential
    woodwind ~ woodwind: piccolo, woodwind_ensemble_essential, woodwind_quintet_essential
    synth = synthesizer: across_the_pacific, ahoy, ambibella, april_pan, arctic_morning, belle_de_jour, cerulean
    synth = synthesizer: chrystal, cold_cave, daft, dawn_chorus, drifting_apart, cheesy_lead, crawling_lead
    synth = synthesizer: december_saw, douglas_lead, downforce_saw, guitar_lead, hard_n_dirty, hybrid_lead, mystic_lead
    synth = synthesizer: percussive_lead, pimped_analog_saw, poly_detuned_lead, processor_lead, reamped_lead
    ~ all: kontakt_def
""")
_SOLO_STRINGS, _BOWED = "solo_strings", range(40, 44)  # one patch for violin, viola, cello and contrabass
_SOME_STRING = Sound("bowed_string", masked=frozenset(("bowed_string", "violin")))


def official_split(number: int, splits: str) -> str | None:
    """Name the partition of a track in one of the official divisions: "orig", "redux" or "split2".

    Args:
        number: of the track.
        splits: the division.

    Returns:
        "train", "validation", "test" or "omitted"; None: there is no such track.
    """
    if not 1 <= number <= NUM_TRACKS:
        return None
    if splits == "redux" and number in OMITTED:
        return "omitted"
    if splits == "split2" and number in MOVED:
        return MOVED[number]
    return "train" if number <= _LAST_TRAIN else "validation" if number <= _LAST_VALIDATION else "test"


def sound_of(program: int | None, plugin: str = "", *, is_drum: bool = False) -> Sound:
    """Choose what a stem sounds like: its patch decides, then its program.

    Args:
        program: General MIDI number from 0, or 128; None: not said.
        plugin: `plugin_name`; also as a path, and the text "None" for none.
        is_drum: whether the notes are on the percussion channel.
    """
    patch = plugin.replace("\\", "/").rpartition("/")[2].strip().casefold().removesuffix(".nkm")
    if patch == _SOLO_STRINGS:
        return _PROGRAMS[str(program)] if program in _BOWED else _SOME_STRING
    if patch in _PATCHES:
        return _PATCHES[patch]
    return _PROGRAMS.get(str(DRUMS if is_drum else program), UNKNOWN_SOUND)
