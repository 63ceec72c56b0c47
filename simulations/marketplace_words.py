"""Words of the generated marketplace: subjects with their tracks, and the forms that courses, e-books and talks take.

Every entry is (Chinese, English). A track belongs to one subject; its items are ordered from first steps to mastery.
"""

SUBJECTS: tuple[tuple[tuple[str, str], tuple[tuple[str, str], ...]], ...] = (
    (
        ("编程", "Programming"),
        (
            ("Python 语言", "Python"),
            ("网页前端", "Web front ends"),
            ("数据库", "Databases"),
            ("操作系统", "Operating systems"),
            ("移动应用", "Mobile apps"),
        ),
    ),
    (
        ("人工智能", "Artificial intelligence"),
        (
            ("机器学习", "Machine learning"),
            ("深度学习", "Deep learning"),
            ("自然语言处理", "Language models"),
            ("计算机视觉", "Computer vision"),
            ("推荐系统", "Recommender systems"),
        ),
    ),
    (
        ("数学", "Mathematics"),
        (
            ("线性代数", "Linear algebra"),
            ("概率统计", "Probability and statistics"),
            ("微积分", "Calculus"),
            ("离散数学", "Discrete mathematics"),
            ("最优化", "Optimisation"),
        ),
    ),
    (
        ("语言学习", "Languages"),
        (
            ("商务英语", "Business English"),
            ("日语会话", "Spoken Japanese"),
            ("法语", "French"),
            ("雅思备考", "IELTS preparation"),
            ("对外汉语", "Chinese for foreigners"),
        ),
    ),
    (
        ("金融", "Finance"),
        (
            ("个人理财", "Personal finance"),
            ("证券投资", "Securities investment"),
            ("公司金融", "Corporate finance"),
            ("风险管理", "Risk management"),
            ("会计基础", "Accounting"),
        ),
    ),
    (
        ("管理", "Management"),
        (
            ("团队领导", "Team leadership"),
            ("项目管理", "Project management"),
            ("产品经理", "Product management"),
            ("战略规划", "Strategy"),
            ("人力资源", "Human resources"),
        ),
    ),
    (
        ("心理", "Psychology"),
        (
            ("情绪管理", "Emotions"),
            ("亲子沟通", "Parenting"),
            ("认知科学", "Cognitive science"),
            ("睡眠与压力", "Sleep and stress"),
            ("心理咨询", "Counselling"),
        ),
    ),
    (
        ("历史人文", "History and humanities"),
        (
            ("中国古代史", "Ancient China"),
            ("世界近代史", "Modern world history"),
            ("哲学导论", "Philosophy"),
            ("古典诗词", "Classical poetry"),
            ("艺术鉴赏", "Art appreciation"),
        ),
    ),
    (
        ("设计", "Design"),
        (
            ("平面设计", "Graphic design"),
            ("交互设计", "Interaction design"),
            ("摄影", "Photography"),
            ("视频剪辑", "Film editing"),
            ("室内设计", "Interior design"),
        ),
    ),
    (
        ("音乐", "Music"),
        (
            ("古琴", "The guqin"),
            ("钢琴", "Piano"),
            ("乐理", "Music theory"),
            ("声乐", "Singing"),
            ("编曲", "Arranging"),
        ),
    ),
    (
        ("健康", "Health"),
        (
            ("营养学", "Nutrition"),
            ("力量训练", "Strength training"),
            ("中医养生", "Chinese medicine"),
            ("急救知识", "First aid"),
            ("瑜伽", "Yoga"),
        ),
    ),
    (
        ("职业法律", "Law and careers"),
        (
            ("合同法", "Contract law"),
            ("劳动法", "Labour law"),
            ("知识产权", "Intellectual property"),
            ("公务员考试", "Civil service examination"),
            ("求职面试", "Job interviews"),
        ),
    ),
)

FORMS: tuple[tuple[str, str], ...] = (
    ("零基础入门", "from zero"),
    ("第一课", "first lesson"),
    ("十讲", "in ten lectures"),
    ("图解", "illustrated"),
    ("核心概念", "core ideas"),
    ("常见误区", "common mistakes"),
    ("基础练习", "exercises"),
    ("工具箱", "toolbox"),
    ("案例精讲", "case studies"),
    ("公开课", "open course"),
    ("每日一练", "a daily habit"),
    ("实战", "in practice"),
    ("训练营", "boot camp"),
    ("工作坊", "workshop"),
    ("进阶", "next steps"),
    ("方法论", "methods"),
    ("经典导读", "classic readings"),
    ("专题研讨", "seminar"),
    ("项目实操", "projects"),
    ("高级课程", "advanced course"),
    ("原理剖析", "from first principles"),
    ("前沿进展", "state of the art"),
    ("名师答疑", "ask the teacher"),
    ("大师课", "master class"),
    ("一对一咨询", "one-to-one consulting"),
)
