"""Ids of the songs of MedleyDB's two releases: 122 of 2014 and 74 of 2016.

`Artist: Title Title` stands for `Artist_Title`. A song that is in neither list is read all the same.
"""


def _ids(table: str) -> frozenset[str]:
    ids: set[str] = set()
    artist = ""
    for word in table.split():
        if word.endswith(":"):
            artist = word[:-1]
        else:
            ids.add(f"{artist}_{word}")
    return frozenset(ids)


V1 = _ids("""
    AClassicEducation: NightOwl AimeeNorwich: Child Flying AlexanderRoss: GoodbyeBolero VelvetCurtain AmarLal: Rest
    SpringDay1 Auctioneer: OurFutureFaces AvaLuna: Waterduct BigTroubles: Phantom BrandonWebster: DontHearAThing
    YesSirICanFly CelestialShore: DieForUs ChrisJacoby: BoothShotLincoln PigsFoot ClaraBerryAndWooldog: AirTraffic
    Boys Stella TheBadGuys WaltzForMyVictims Creepoid: OldTree CroqueMadame: Oil Pilot Debussy: LenfantProdigue
    DreamersOfTheGhetto: HeavyLove EthanHein: 1930sSynthAndUprightBass BluesForNofi GirlOnABridge HarmonicaFigure
    FacesOnFilm: WaitingForGa FamilyBand: Again Grants: PunchDrunk Handel: TornamiAVagheggiar HeladoNegro:
    MitadDelMundo HezekiahJones: BorrowedHeart HopAlong: SisterCities InvisibleFamiliars: DisturbingWildlife
    JoelHelander: Definition ExcessiveResistancetoChange IntheAtticBedroom KarimDouaidy: Hopscotch Yatora
    LizNelson: Coldwar ImComingHome Rainfall Lushlife: ToynbeeSuite MatthewEntwistle: AnEveningWithOliver
    DontYouEver FairerHopes ImpressionsOfSaturn Lontano TheArch TheFlaxenField Meaxic: TakeAStep YouListen
    MichaelKropf: AllGoodThings Mozart: BesterJungling DiesBildnis MusicDelta: 80sRock Beatles BebopJazz Beethoven
    Britpop ChineseChaoZhou ChineseDrama ChineseHenan ChineseJiangNan ChineseXinJing ChineseYaoZu CoolJazz Country1
    Country2 Disco FreeJazz FunkJazz FusionJazz Gospel GriegTrolltog Grunge Hendrix InTheHalloftheMountainKing
    LatinJazz ModalJazz Pachelbel Punk Reggae Rock Rockabilly Shadows SpeedMetal SwingJazz Vivaldi Zeppelin
    NightPanther: Fire Phoenix: BrokenPledgeChicagoReel ColliersDaughter ElzicsFarewell
    LarkOnTheStrandDrummondCastle ScotchMorris SeanCaughlinsTheScartaglen PortStWillow: StayEven PurlingHiss:
    Lolita Schubert: Erstarrung Schumann: Mignon SecretMountains: HighHorse Snowmine: Curfews StevenClark: Bounty
    StrandOfOaks: Spacestation SweetLights: YouLetMeDown TablaBreakbeatScience: Animoog CaptainSky MiloVsMongo
    MoodyPlucks PhaseTransition RockSteady Scorpio Vger WhoIsIt TheDistricts: Vermont TheScarletBrand:
    LesFleursDuMal TheSoSoGlos: Emergency Wolf: DieBekherte
""")

V2 = _ids("""
    Allegria: MendelssohnMovement1 AmadeusRedux: MozartAllegro SchubertMovement2 SchubertMovement3 BarefootSisters:
    RedJetta CassandraJenkins: PerfectDay CatMartino: IPromise Cayetana: MissThing DahkaBand: SoldierMan
    DeadMilkmen: PrisonersCinema DeclareAString: MendelssohnPianoTrio1Movement1 MendelssohnPianoTrio1Movement2
    FallingSparks: Improvisation1 Improvisation2 Improvisation3 PakKlongTalad FennelCartwright: DearTessie
    FlowerDrumSong WinterLake FilthyBird: IdLikeToKnow FruitCathedral: KeepMeRunnin HopsNVinyl: ChickenFriedSteak
    HoneyBrown ReignCheck WidowsWalk Karachacha: Volamos Katzn: CharlieKnox LewisAndClarke: TheSilverSea
    LittleTybee: TheAlchemist MatthewEntwistle: ReturnToVenezia MidnightBlue: HuntingSeason StarsAreScreaming
    MutualBenefit: NotForNothing PatternIsMovement: SaveMe PeterMatthewBauer: YouAlwaysLookForSomeoneLost Plasma:
    GoodShout PoliceHearingDepartment: Brahms SchumannMovement1 SchumannMovement2 VivaldiMovement1 VivaldiMovement2
    VivaldiMovement3 QuantumChromos: Circuits RodrigoBonelli: BalladForLaura SasquatchConnection: BoomBoxing
    HolyClamsBatman Illuminati Struttin ThanksALatte SlowGhost: FirstSnow MidnightGroove Peanut YoureAMystery
    SongYiJeon: TwoMoons Sweat: AlmostAlways Anecdoche Elegy Mesozoic Sn1572 Tact TemperedElan: DorothyJeanne
    WiseOne TheFranckDuo: FranckViolinSonataInAMajorMovement1 FranckViolinSonataInAMajorMovement2 TheKitchenettes:
    Alive TheNoHoStringOrchestra: ElgarMovement1 ElgarMovement2 ElgarMovement3 TheTonTons: Lush TleilaxEnsemble:
    Late MelancholyFlowers Torres: NewSkin TrevorAndTheSoundwaves: AloneAndSad Verdi: IlTrovatore
""")
