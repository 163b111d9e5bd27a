"""Which language is meant: clients say it in two letters (en), MMS in three (eng), others with a country (en-GB)."""

#: What ISO 639 calls a language of which nothing is known.
UNKNOWN = "und"

#: ISO 639: the two letters of a language, and behind them its three.
_CODES = (
    "aaaar ababk aeave afafr akaka amamh anarg arara asasm avava ayaym azaze babak bebel bgbul bibis bmbam bnben "
    "bobod brbre bsbos cacat ceche chcha cocos crcre csces cuchu cvchv cycym dadan dedeu dvdiv dzdzo eeewe elell "
    "eneng eoepo esspa etest eueus fafas ffful fifin fjfij fofao frfra fyfry gagle gdgla glglg gngrn guguj gvglv "
    "hahau heheb hihin hohmo hrhrv hthat huhun hyhye hzher iaina idind ieile igibo iiiii ikipk ioido isisl itita "
    "iuiku jajpn jvjav kakat kgkon kikik kjkua kkkaz klkal kmkhm knkan kokor krkau kskas kukur kvkom kwcor kykir "
    "lalat lbltz lglug lilim lnlin lolao ltlit lulub lvlav mgmlg mhmah mimri mkmkd mlmal mnmon mrmar msmsa mtmlt "
    "mymya nanau nbnob ndnde nenep ngndo nlnld nnnno nonor nrnbl nvnav nynya ococi ojoji omorm orori ososs papan "
    "pipli plpol pspus ptpor quque rmroh rnrun roron rurus rwkin sasan scsrd sdsnd sesme sgsag shhbs sisin skslk "
    "slslv smsmo snsna sosom sqsqi srsrp ssssw stsot susun svswe swswa tatam tetel tgtgk ththa titir tktuk tltgl "
    "tntsn toton trtur tstso tttat twtwi tytah uguig ukukr ururd uzuzb veven vivie vovol wawln wowol xhxho yiyid "
    "yoyor zazha zhzho zuzul"
)
_THREE_OF_TWO = {code[:2]: code[2:] for code in _CODES.split()}


def language_of(name: str) -> str | None:
    """The three letters of a language in ISO 639; None where the name is none of its.

    >>> [language_of(name) for name in ("de", "deu", "DE-at", "zh_Hans", "urd-script_arabic", "german", "xx", "")]
    ['deu', 'deu', 'deu', 'zho', 'urd', None, None, None]
    """
    code = name.lower().replace("_", "-").partition("-")[0]
    if not (code.isascii() and code.isalpha()):
        return None
    return code if len(code) == 3 else _THREE_OF_TWO.get(code)


def is_same_language(name: str, other: str) -> bool:
    """Whether two names mean one language: a name that is not of ISO 639 means itself alone."""
    return name == other or (language := language_of(name)) is not None and language == language_of(other)
