"""The sentences that a voice is measured with, in its language: a short one and a long one.

They are written as phonemes, so that a change in reading text does not change the measurement.
"""

from __future__ import annotations

from collections.abc import Mapping

SENTENCES: Mapping[str, tuple[str, str]] = {
    "a": (
        "ðə tɹˈAn tə ðə kˈOst lˈivz ˈɜɹli ɪn ðə mˈɔɹnɪŋ, sˌO wi ʃˌʊd ɡˌO.",
        "wˌi wˈɔkt əlˈɔŋ ðə ɹˈɪvəɹ ˌʌntˈɪl ðə sˈʌn wˈɛnt dˌWn, ænd ðˈɛn wi sˈæt bI ði "
        "ˈOld bɹˈɪʤ ænd tˈɔkt əbˈWt ðə sˈʌməɹ ðæt wi hæd spˈɛnt ɪn ðə mˈWntᵊnz.",
    ),
    "b": (
        "ðə tɹˈAn tə ðə kˈQst lˈiːvz ˈɜːli ɪn ðə mˈɔːnɪŋ, sˌQ wiː ʃˌʊd ɡˌQ.",
        "wˌiː wˈɔːkt əlˈɒŋ ðə ɹˈɪvə əntˈɪl ðə sˈʌn wˈɛnt dˌWn, and ðˈɛn wiː sˈat bI ði "
        "ˈQld bɹˈɪʤ and tˈɔːkt əbˈWt ðə sˈʌmə ðat wiː had spˈɛnt ɪn ðə mˈWntɪnz.",
    ),
    "e": (
        "el tɾˈen sˈale tempɾˈano poɾ la maɲˈana, i tenˈemos ke ˈiɾnos ʝˈa.",
        "kˌaminˈamos xˈunto al rˈio ˌasta ke se pˈuso el sˈol, i luˈeɣo nos sentˈamos "
        "θˈeɾka ðel βjˈexo pwˈɛnte i aβlˈamos ðel βeɾˈano ke pasˈamos en las montˈaɲas.",
    ),
    "f": (
        "lə tʁˈɛ̃ pˈaʁ tˈoː lə matˈɛ̃, il fo dˈɔ̃k kə nu paʁtjˈɔ̃.",
        "nuz avˈɔ̃ maʁʃˈe lə lˈɔ̃ də la ʁivjˈɛʁ ʒysko kuʃˈe dy solˈɛj, pyˈi nu nu sɔmz "
        "asˈi pʁɛ dy vjˈø pˈɔ̃t e nuz avˈɔ̃ paʁlˈe də letˈe pasˈe a la mɔ̃tˈaɲ.",
    ),
    "h": (
        "ɾˌeːlɡˈaːɽi sˈʊbəh ɟˈʌldi nˈɪkəlti hɛː, ˈɪslˌɪeː hˈʌmẽː ˈʌb cˈʌlnˌaː cˈaːhɪˌeː.",
        "hˌəm sˈuːɾəɟ ɖˈuːbnˌeː tˌək nˈʌdi keː kɪnˈaːɾeː cˈʌltˌeː ɾˌəheː, pʰˈɪɾ "
        "pʊɾˈaːneː pˈʊl keː pˈaːs bˈɛːʈʰəkˌəɾ ˈʊs ɡˈʌrmi ki bˈaːtẽː kˈʌɾtˌeː ɾˌəheː "
        "ɟˈoː hˈʌmnˌeː pəhˈaːɽõ mẽː bɪtˈaːi tʰi.",
    ),
    "i": (
        "il trˈɛno pˈarte prˈɛsto la matːˈina, kwˈindɪ dobːjˈamo andˈare.",
        "abːjˌamo kamminˈato lˈuŋɡo il fjˈume fˈino al tramˈonto, pˈɔi ʧɪ sjˌamo sedˈutɪ "
        "viʧˈino al vˈɛkːio pˈonte e abːjˌamo parlˈato dˌella estˈate paSˈata in "
        "montˈaɲɲa.",
    ),
    "j": (
        "asa hajakɯ deɴɕa ɡa ɯmʲi e demasɨkaɾa, moː ikʲimaɕoː.",
        "βataɕitaʨi βa çi ɡa ɕizɨmɯ made kaβa ɲi soʔte aɾɯkʲi, soɾe kaɾa ɸɯɾɯi haɕi no "
        "soba ɲi sɨβaʔte, jama de sɨɡoɕita naʦɨ no koto o hanaɕimaɕita.",
    ),
    "p": (
        "ʊ trˈAŋ sˈI sˈedʊ ʤy mɐ̃ɲˈɐ̃, poɾ ˈisʊ tˌemʊz ʤj ˈiɾ ˌAmbˈɔɾæ.",
        "kˌæmiɲˈɐ̃mʊz W lˈoŋɡʊ dʊ xˈiʊ atˌɛ ʊ pˈor dʊ sˈɔl, depˈoɪz nʊs sˌAŋtˈɐ̃mʊs "
        "pˈɛɾətʊ da vˈɛljæ pˈoŋʧj i fˌalˈɐ̃mʊz dʊ veɾˈɐ̃ʊ̃ ky pˌasˈɐ̃mʊz naz mˌoŋtˈɐ̃ɲæs.",
    ),
    "z": (
        "ʨʰy↘ xai↓pjɛ→n tɤ xwo↓ꭧʰɤ→ i→ta↘ʦau↓ ʨjou↘ ꭧʰu→fa→, swo↓i↓ wo↓mən ɕjɛ↘nʦai↘ kai→ ʦou↓ lɤ.",
        "wo↓mən jɛ↗nꭧɤ xɤ↗ i↘ꭧɨ↗ ʦou↓ tau↘ tʰai↘ja↗ŋ ɕja↘ʂa→n, ɻa↗nxou↘ ʦwo↘ʦai↘ na↘ʦwo↘ "
        "lau↓ʨʰjau↗ pʰa↗ŋpjɛ→n, ljau↗ʨʰi↓ lɤ ʦai↘ ʂa→nli↓ tu↘kwo↘ tɤ na↘kɤ ɕja↘tʰjɛ→n, "
        "xai↗jou↓ ꭧʰə↗ŋli↓ tɤ pʰə↗ŋjou↓ mən.",
    ),
}
"""By the first letter of the voice's name."""
