"""Names of people and places: common ones, and endlessly many made of syllables.

A model that meets few names learns them by heart; one that meets thousands learns to copy. A
fifth of all made-up names, by hash, is held out.
"""

from random import Random

from data.vocabulary import is_held_out

FIRST = """
Aaron Abigail Adam Adele Agnes Ahmed Aisha Alan Albert Alice Amara Amelia Amir Andrea Andrew Angela
Anita Anton Arthur Astrid Bella Ben Bianca Boris Brenda Bruno Carla Carmen Caroline Cecilia Charles
Chen Chloe Clara Claude Colin Conrad Dalia David Deborah Denis Diana Diego Dmitri Dora Edgar Edith
Eduardo Elena Elias Elif Elsa Emma Enzo Erik Esther Ethan Eva Farid Fatima Felix Fiona Flora Frank
Freya George Gloria Grace Greta Gustav Hana Hannah Harold Hassan Helen Henry Hugo Ian Ibrahim Ida
Ines Ingrid Irene Isabel Ivan Jack Jamal Jane Javier Jonas Joyce Judith Jun Karim Karl Kate Kenji
Klara Kofi Lara Laura Layla Leo Leon Lena Liam Lin Linda Louis Lucas Lucy Luis Maria Marco Margaret
Mario Marta Matteo Maya Mei Mia Miguel Milan Mina Miriam Mona Nadia Naomi Nasser Nina Noah Nora Olga
Oliver Omar Oscar Otto Pablo Paula Pedro Peter Petra Philip Priya Quentin Rachel Raj Ramon Rita
Robert Rosa Ruth Sadia Sami Samuel Sara Sergei Silvia Simon Sofia Stefan Susan Tamara Tariq Tara
Theo Thomas Tina Tobias Ursula Vera Victor Viktor Vivian Walter Wanda Wei William Yara Yuki Yusuf
Zara Zoe
""".split()
LAST = """
Abbott Adeyemi Ahmadi Almeida Andersen Aoki Baker Bakshi Banerjee Barros Bauer Becker Bianchi Blake
Boateng Braun Brennan Brown Campbell Cardoso Castellan Castillo Chandra Chang Christensen Clarke
Cohen Costa Cruz Davies Delgado Demir Diaz Doyle Dupont Edwards Eriksen Evans Farouk Fernandez
Ferrari Fleming Fontaine Foster Gallo Garcia Gupta Haas Hansen Harper Hayes Hoffman Holm Hughes
Hussain Ibarra Ito Ivanov Jansen Jensen Johnson Kaur Keller Kim Kowalski Kruger Kumar Laurent Lee
Lehmann Lopez Madsen Malik Marino Marsh Mendes Meyer Mills Mori Mueller Murphy Nakamura Nielsen
Nkosi Obi Olsen Ortega Osman Palmer Park Patel Pereira Popov Quinn Ramirez Reed Rivera Romano Santos
Sato Schmidt Sharma Singh Smirnov Sousa Stone Suzuki Svensson Taylor Thorne Torres Turner Vargas
Vega Wagner Weber Whitfield Wilson Wong Wright Yamada Yilmaz Young Zhang Zimmerman
""".split()
TOWNS = """
Accra Alexandria Amsterdam Ankara Antwerp Baku Bangkok Barcelona Basel Beirut Belfast Bergen Berlin
Bern Bogota Bologna Bombay Bremen Brisbane Brussels Budapest Calgary Cambridge Caracas Cardiff
Chicago Cologne Copenhagen Cordoba Dakar Dallas Detroit Dresden Durban Edinburgh Florence Frankfurt
Galway Genoa Ghent Glasgow Granada Hamburg Hanoi Harare Helsinki Houston Istanbul Jakarta Kampala
Karachi Kiev Kingston Krakow Lagos Leeds Leipzig Lille Lima Liverpool London Lucerne Lyon Madrid
Malaga Manchester Manila Marseille Melbourne Memphis Miami Minsk Montreal Moscow Mumbai Munich
Naples Nice Odessa Oxford Palermo Panama Paris Perth Philadelphia Portland Porto Reykjavik Riga Rome
Rotterdam Salzburg Santiago Seattle Seville Shanghai Singapore Sofia Stockholm Strasbourg Stuttgart
Taipei Tallinn Tangier Tokyo Toledo Toronto Trieste Tunis Turin Utrecht Valencia Vancouver Venice
Verona Vilnius Wellington York Zagreb Zurich
""".split()

ONSETS = "b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sh sl st t th tr v w y z".split()
VOWELS = "a a a e e e i i o o u ai au ea ee ia ie oo ou".split()
CODAS = ["", "", "", "l", "n", "r", "s", "m", "t", "nd", "rt", "ck", "x", "ll", "ss", "th"]
FIRST_ENDINGS = "a e o en ia us ine is ard elle in or".split()
LAST_ENDINGS = "son er man ov ini ski ley ford ez berg ic well ard ton".split()
TOWN_ENDINGS = "ton ville burg ford ia a stad port mouth field holm o minster".split()

MADE_UP_SHARE = 0.5


def made_up(rng: Random, endings: list[str]) -> str:
    """One or two syllables and an ending, such as `Trelasov`."""
    while True:
        name = ""
        for _ in range(rng.randint(1, 2)):
            name += rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS)
        name = (name.rstrip("aeiou") + rng.choice(endings)).capitalize()
        if 4 <= len(name) <= 13 and not is_held_out(name):
            return name


def _draw(rng: Random, known: list[str], endings: list[str]) -> str:
    return made_up(rng, endings) if rng.random() < MADE_UP_SHARE else rng.choice(known)


def first_name(rng: Random) -> str:
    return _draw(rng, FIRST, FIRST_ENDINGS)


def person(rng: Random) -> str:
    return first_name(rng) + " " + _draw(rng, LAST, LAST_ENDINGS)


def town(rng: Random) -> str:
    return _draw(rng, TOWNS, TOWN_ENDINGS)
